CREATE TABLE "website_worker"."erp_asks" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "website_worker"."erp_asks_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"site_id" integer NOT NULL,
	"type" text NOT NULL,
	"sku" text NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."erp_calls" (
	"origin" text NOT NULL,
	"place" smallint NOT NULL,
	"token" uuid NOT NULL,
	"until" timestamp with time zone NOT NULL,
	CONSTRAINT "erp_calls_origin_place_pk" PRIMARY KEY("origin","place")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."erp_ids" (
	"site_id" integer NOT NULL,
	"entity" text NOT NULL,
	"erp_id" text NOT NULL,
	"row_id" integer NOT NULL,
	CONSTRAINT "erp_ids_site_id_entity_erp_id_pk" PRIMARY KEY("site_id","entity","erp_id")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."erp_origins" (
	"origin" text PRIMARY KEY NOT NULL,
	"paced_until" timestamp with time zone,
	"failures" integer DEFAULT 0 NOT NULL,
	"opens" integer DEFAULT 0 NOT NULL,
	"open_until" timestamp with time zone,
	"changed_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."erp_prices" (
	"site_id" integer NOT NULL,
	"sku" text NOT NULL,
	"price" numeric(10, 2) NOT NULL,
	"compare_at_price" numeric(10, 2),
	"version" numeric NOT NULL,
	CONSTRAINT "erp_prices_site_id_sku_pk" PRIMARY KEY("site_id","sku")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."erp_products" (
	"product_id" integer PRIMARY KEY NOT NULL,
	"site_id" integer NOT NULL,
	"version" numeric NOT NULL,
	"hashes" jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."erp_pushes" (
	"id" text PRIMARY KEY NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."erp_stock" (
	"site_id" integer NOT NULL,
	"sku" text NOT NULL,
	"quantity" integer NOT NULL,
	"version" numeric NOT NULL,
	CONSTRAINT "erp_stock_site_id_sku_pk" PRIMARY KEY("site_id","sku")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."product_changes" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "website_worker"."product_changes_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"site_id" integer NOT NULL,
	"product_id" integer NOT NULL,
	"changed" text[] NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."sync_checkpoints" (
	"site_id" integer NOT NULL,
	"type" text NOT NULL,
	"source" text NOT NULL,
	"checkpoint" text,
	"full_at" timestamp with time zone,
	"changed_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "sync_checkpoints_site_id_type_pk" PRIMARY KEY("site_id","type")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."sync_quarantine" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "website_worker"."sync_quarantine_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"site_id" integer NOT NULL,
	"type" text NOT NULL,
	"entity" text NOT NULL,
	"key" text NOT NULL,
	"erp_id" text,
	"sku" text,
	"reason" text NOT NULL,
	"snapshot" jsonb,
	"log_id" integer,
	"first_seen_at" timestamp with time zone DEFAULT now() NOT NULL,
	"last_seen_at" timestamp with time zone DEFAULT now() NOT NULL,
	"resolved_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "website_worker"."sync_runs" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "website_worker"."sync_runs_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"site_id" integer NOT NULL,
	"type" text NOT NULL,
	"mode" text NOT NULL,
	"state" text DEFAULT 'running' NOT NULL,
	"work_id" bigint NOT NULL,
	"token" uuid NOT NULL,
	"lease_until" timestamp with time zone NOT NULL,
	"phase" text DEFAULT 'fetching' NOT NULL,
	"options" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"is_first" boolean DEFAULT false NOT NULL,
	"source" text NOT NULL,
	"since" text,
	"cursor" text,
	"checkpoint" text,
	"pages" integer DEFAULT 0 NOT NULL,
	"staged" integer DEFAULT 0 NOT NULL,
	"rejected" integer DEFAULT 0 NOT NULL,
	"applied_through" integer DEFAULT 0 NOT NULL,
	"counts" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"error" text,
	"started_at" timestamp with time zone DEFAULT now() NOT NULL,
	"finished_at" timestamp with time zone
);
--> statement-breakpoint
CREATE UNLOGGED TABLE "website_worker"."sync_staging" (
	"run_id" bigint NOT NULL,
	"n" integer NOT NULL,
	"kind" text NOT NULL,
	"erp_id" text,
	"sku" text,
	"version" numeric,
	"doc" jsonb,
	"quantity" integer,
	"price" numeric(10, 2),
	"compare_at_price" numeric(10, 2),
	CONSTRAINT "sync_staging_run_id_n_pk" PRIMARY KEY("run_id","n")
);
--> statement-breakpoint
CREATE INDEX "erp_asks_site" ON "website_worker"."erp_asks" USING btree ("site_id","type","id");--> statement-breakpoint
CREATE UNIQUE INDEX "erp_ids_row" ON "website_worker"."erp_ids" USING btree ("entity","row_id");--> statement-breakpoint
CREATE INDEX "erp_products_site" ON "website_worker"."erp_products" USING btree ("site_id");--> statement-breakpoint
CREATE INDEX "erp_pushes_at" ON "website_worker"."erp_pushes" USING btree ("at");--> statement-breakpoint
CREATE INDEX "product_changes_site" ON "website_worker"."product_changes" USING btree ("site_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "sync_quarantine_open" ON "website_worker"."sync_quarantine" USING btree ("site_id","type","entity","key") WHERE resolved_at IS NULL;--> statement-breakpoint
CREATE INDEX "sync_quarantine_site" ON "website_worker"."sync_quarantine" USING btree ("site_id","id");--> statement-breakpoint
CREATE INDEX "sync_quarantine_resolved" ON "website_worker"."sync_quarantine" USING btree ("resolved_at") WHERE resolved_at IS NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "sync_runs_running" ON "website_worker"."sync_runs" USING btree ("site_id","type") WHERE state = 'running';--> statement-breakpoint
CREATE INDEX "sync_runs_site" ON "website_worker"."sync_runs" USING btree ("site_id","id");--> statement-breakpoint
CREATE INDEX "sync_runs_finished" ON "website_worker"."sync_runs" USING btree ("finished_at") WHERE finished_at IS NOT NULL;