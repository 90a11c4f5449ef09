CREATE TABLE "website_worker"."analytics_dirty" (
	"site_id" integer NOT NULL,
	"hour" timestamp with time zone NOT NULL,
	"id" bigint GENERATED ALWAYS AS IDENTITY (sequence name "website_worker"."analytics_dirty_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"kind" text NOT NULL,
	"rows" integer DEFAULT 0 NOT NULL,
	"at" timestamp with time zone,
	CONSTRAINT "analytics_dirty_pkey" PRIMARY KEY("site_id","hour","id")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."analytics_late" (
	"site_id" integer NOT NULL,
	"day" date NOT NULL,
	"kind" text NOT NULL,
	"rows" bigint NOT NULL,
	CONSTRAINT "analytics_late_pkey" PRIMARY KEY("site_id","day","kind")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."referrer_hosts" (
	"origin" varchar(300) PRIMARY KEY NOT NULL,
	"host" varchar(255) NOT NULL,
	"seen_on" date DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."rollup_ranges" (
	"work_id" bigint PRIMARY KEY NOT NULL,
	"hours" integer NOT NULL,
	"marked_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."rollup_sites" (
	"site_id" integer PRIMARY KEY NOT NULL,
	"timezone" text,
	"sealed_before" timestamp with time zone,
	"rolled_through" timestamp with time zone,
	"next_at" timestamp with time zone DEFAULT now() NOT NULL,
	"visitors_from" date,
	"visitors_next_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."user_agents" (
	"hash" uuid PRIMARY KEY NOT NULL,
	"is_bot" boolean NOT NULL,
	"seen_on" date DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_analytics_dimensions_daily" (
	"site_id" integer NOT NULL,
	"day" date NOT NULL,
	"dimension" varchar(20) NOT NULL,
	"value" varchar(255) NOT NULL,
	"pageviews" integer DEFAULT 0 NOT NULL,
	"visitors" integer DEFAULT 0 NOT NULL,
	"visits" integer DEFAULT 0 NOT NULL,
	CONSTRAINT "website_analytics_dimensions_daily_pkey" PRIMARY KEY("site_id","dimension","day","value")
);
--> statement-breakpoint
CREATE TABLE "website_analytics_events_daily" (
	"site_id" integer NOT NULL,
	"day" date NOT NULL,
	"event_type" varchar(100) NOT NULL,
	"event_name" varchar(255) NOT NULL,
	"events" integer DEFAULT 0 NOT NULL,
	"visitors" integer DEFAULT 0 NOT NULL,
	CONSTRAINT "website_analytics_events_daily_pkey" PRIMARY KEY("site_id","day","event_type","event_name")
);
--> statement-breakpoint
CREATE TABLE "website_analytics_page_daily" (
	"site_id" integer NOT NULL,
	"day" date NOT NULL,
	"page_key" uuid NOT NULL,
	"page_id" integer,
	"page_path" varchar(1024) NOT NULL,
	"pageviews" integer DEFAULT 0 NOT NULL,
	"visitors" integer DEFAULT 0 NOT NULL,
	"entries" integer DEFAULT 0 NOT NULL,
	"exits" integer DEFAULT 0 NOT NULL,
	CONSTRAINT "website_analytics_page_daily_pkey" PRIMARY KEY("site_id","day","page_key")
);
--> statement-breakpoint
CREATE TABLE "website_analytics_page_hourly" (
	"site_id" integer NOT NULL,
	"hour" timestamp with time zone NOT NULL,
	"page_key" uuid NOT NULL,
	"page_id" integer,
	"page_path" varchar(1024) NOT NULL,
	"pageviews" integer DEFAULT 0 NOT NULL,
	"visitors" integer DEFAULT 0 NOT NULL,
	CONSTRAINT "website_analytics_page_hourly_pkey" PRIMARY KEY("site_id","hour","page_key")
);
--> statement-breakpoint
CREATE TABLE "website_analytics_site_daily" (
	"site_id" integer NOT NULL,
	"day" date NOT NULL,
	"pageviews" integer DEFAULT 0 NOT NULL,
	"bot_pageviews" integer DEFAULT 0 NOT NULL,
	"visitors" integer DEFAULT 0 NOT NULL,
	"visits" integer DEFAULT 0 NOT NULL,
	"bounces" integer DEFAULT 0 NOT NULL,
	"visit_seconds" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "website_analytics_site_daily_pkey" PRIMARY KEY("site_id","day")
);
--> statement-breakpoint
CREATE TABLE "website_analytics_visitors" (
	"site_id" integer NOT NULL,
	"period" varchar(5) NOT NULL,
	"ends_on" date NOT NULL,
	"visitors" integer DEFAULT 0 NOT NULL,
	CONSTRAINT "website_analytics_visitors_pkey" PRIMARY KEY("site_id","period","ends_on")
);
--> statement-breakpoint
CREATE TABLE "website_analytics_visits" (
	"site_id" integer NOT NULL,
	"session_id" varchar(255) NOT NULL,
	"started_at" timestamp with time zone NOT NULL,
	"ended_at" timestamp with time zone NOT NULL,
	"seconds" integer NOT NULL,
	"pageviews" integer NOT NULL,
	"entry_key" uuid NOT NULL,
	"entry_page_id" integer,
	"entry_path" varchar(1024) NOT NULL,
	"exit_key" uuid NOT NULL,
	"exit_page_id" integer,
	"exit_path" varchar(1024) NOT NULL,
	"referrer_host" varchar(255) NOT NULL,
	"utm_source" varchar(100) NOT NULL,
	"utm_medium" varchar(100) NOT NULL,
	"utm_campaign" varchar(100) NOT NULL,
	"utm_term" varchar(100) NOT NULL,
	"utm_content" varchar(100) NOT NULL,
	"country" varchar(2) NOT NULL,
	"device_type" varchar(20) NOT NULL,
	"browser" varchar(50) NOT NULL,
	CONSTRAINT "website_analytics_visits_pkey" PRIMARY KEY("site_id","session_id","started_at")
);
--> statement-breakpoint
CREATE INDEX "referrer_hosts_seen_on" ON "website_worker"."referrer_hosts" USING btree ("seen_on");--> statement-breakpoint
CREATE INDEX "user_agents_seen_on" ON "website_worker"."user_agents" USING btree ("seen_on");--> statement-breakpoint
CREATE INDEX "website_analytics_page_daily_page" ON "website_analytics_page_daily" USING btree ("site_id","page_id","day") WHERE page_id IS NOT NULL;--> statement-breakpoint
CREATE INDEX "website_analytics_visits_started" ON "website_analytics_visits" USING btree ("site_id","started_at");--> statement-breakpoint
CREATE INDEX "website_analytics_visits_long" ON "website_analytics_visits" USING btree ("site_id","started_at") WHERE seconds > 21600;--> statement-breakpoint
-- Read by whoever may read the pageviews, also by roles that come later; asked once for each statement.
DO $$
DECLARE v_table text;
BEGIN
  FOREACH v_table IN ARRAY ARRAY['website_analytics_site_daily', 'website_analytics_page_hourly',
    'website_analytics_page_daily', 'website_analytics_dimensions_daily', 'website_analytics_events_daily',
    'website_analytics_visits', 'website_analytics_visitors'] LOOP
    EXECUTE format('COMMENT ON TABLE %I IS ''Made by website-worker''', v_table);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_table);
    EXECUTE format('CREATE POLICY readers ON %I FOR SELECT TO PUBLIC '
      || 'USING (has_table_privilege(''public.website_pageviews'', ''SELECT''))', v_table);
    EXECUTE format('GRANT SELECT ON %I TO PUBLIC', v_table);
  END LOOP;
END $$;
--> statement-breakpoint
-- Small and always changing: what is dead in it is found by scans of its head.
ALTER TABLE website_worker.analytics_dirty SET (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);
