-- Forms become leads: what was begun at CRMs and mail servers, and what stands in the way.
CREATE TABLE "website_worker"."crm_leads" (
	"submission_id" integer PRIMARY KEY NOT NULL,
	"integration_id" integer NOT NULL,
	"reference" text NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"attempted_at" timestamp with time zone DEFAULT now() NOT NULL,
	"search_from" timestamp with time zone,
	"lead_id" text,
	"converted_at" timestamp with time zone,
	"unsure" boolean DEFAULT false NOT NULL,
	"checked_at" timestamp with time zone,
	"duplicates" text[]
);
--> statement-breakpoint
CREATE TABLE "website_worker"."integration_faults" (
	"site_id" integer NOT NULL,
	"type" text NOT NULL,
	"integration_id" integer,
	"error" text NOT NULL,
	"seen" text NOT NULL,
	"since" timestamp with time zone DEFAULT now() NOT NULL,
	"checked_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "integration_faults_site_id_type_pk" PRIMARY KEY("site_id","type")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."seen_submissions" (
	"submission_id" integer PRIMARY KEY NOT NULL,
	"seen_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."submission_mails" (
	"submission_id" integer PRIMARY KEY NOT NULL,
	"message_id" text NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"attempted_at" timestamp with time zone DEFAULT now() NOT NULL,
	"sent_at" timestamp with time zone
);
