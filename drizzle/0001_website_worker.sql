CREATE SCHEMA IF NOT EXISTS "website_worker";
--> statement-breakpoint
CREATE TABLE "website_worker"."domains" (
	"domain" text NOT NULL,
	"site_id" integer DEFAULT 0 NOT NULL,
	"enabled" boolean NOT NULL,
	"paused" boolean DEFAULT false NOT NULL,
	"watermark" bigint DEFAULT 0 NOT NULL,
	"changed_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "domains_domain_site_id_pk" PRIMARY KEY("domain","site_id")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."epoch" (
	"id" integer PRIMARY KEY DEFAULT 1 NOT NULL,
	"queue_id" text,
	"counter" bigint DEFAULT 0 NOT NULL,
	"alarms" bigint DEFAULT 0 NOT NULL,
	"changed_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."events" (
	"site_id" integer NOT NULL,
	"id" text NOT NULL,
	"event" text NOT NULL,
	"body" text,
	"hash" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "events_site_id_id_pk" PRIMARY KEY("site_id","id")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."idempotency_keys" (
	"principal" text NOT NULL,
	"key" text NOT NULL,
	"request_hash" text NOT NULL,
	"status" integer NOT NULL,
	"response" jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "idempotency_keys_principal_key_pk" PRIMARY KEY("principal","key")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."installation" (
	"id" integer PRIMARY KEY DEFAULT 1 NOT NULL,
	"installed_at" timestamp with time zone DEFAULT now() NOT NULL,
	"delivery_watermark" bigint NOT NULL,
	"adopted" boolean NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."jobs" (
	"job" text PRIMARY KEY NOT NULL,
	"domain" text NOT NULL,
	"key_fields" text[] NOT NULL,
	"subject_field" text,
	"subject_table" text,
	"is_public" boolean NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."leader" (
	"id" integer PRIMARY KEY DEFAULT 1 NOT NULL,
	"holder" uuid,
	"until" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."queue_pauses" (
	"job" text PRIMARY KEY NOT NULL,
	"paused_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."schedules" (
	"site_id" integer DEFAULT 0 NOT NULL,
	"job" text NOT NULL,
	"every_seconds" integer NOT NULL,
	"offset_seconds" integer DEFAULT 0 NOT NULL,
	"next_at" timestamp with time zone NOT NULL,
	CONSTRAINT "schedules_site_id_job_pk" PRIMARY KEY("site_id","job")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."webhook_attempts" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "website_worker"."webhook_attempts_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"delivery_id" integer NOT NULL,
	"attempt" integer NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	"status_code" integer,
	"duration_ms" integer NOT NULL,
	"error" text,
	"trigger" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."webhook_health" (
	"webhook_id" integer PRIMARY KEY NOT NULL,
	"failing_since" timestamp with time zone,
	"last_success_at" timestamp with time zone,
	"last_failure_at" timestamp with time zone,
	"disabled_at" timestamp with time zone,
	"disabled_reason" text
);
--> statement-breakpoint
CREATE TABLE "website_worker"."work" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "website_worker"."work_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"job" text NOT NULL,
	"key" text NOT NULL,
	"site_id" integer,
	"payload" jsonb NOT NULL,
	"label" text DEFAULT '' NOT NULL,
	"state" text DEFAULT 'owed' NOT NULL,
	"reason" text,
	"generation" integer DEFAULT 1 NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"crashes" integer DEFAULT 0 NOT NULL,
	"trigger" text DEFAULT 'request' NOT NULL,
	"next_at" timestamp with time zone DEFAULT now() NOT NULL,
	"rung_at" timestamp with time zone,
	"lease_until" timestamp with time zone,
	"lease_token" uuid,
	"last_error" text,
	"progress" jsonb,
	"result" jsonb,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"finished_at" timestamp with time zone
);
--> statement-breakpoint
CREATE INDEX "events_created_at" ON "website_worker"."events" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "idempotency_keys_created_at" ON "website_worker"."idempotency_keys" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "schedules_next_at" ON "website_worker"."schedules" USING btree ("next_at");--> statement-breakpoint
CREATE INDEX "webhook_attempts_delivery" ON "website_worker"."webhook_attempts" USING btree ("delivery_id","id");--> statement-breakpoint
CREATE INDEX "webhook_attempts_at" ON "website_worker"."webhook_attempts" USING btree ("at");--> statement-breakpoint
CREATE UNIQUE INDEX "work_unfinished_key" ON "website_worker"."work" USING btree ("job","key") WHERE state IN ('owed', 'running', 'held');--> statement-breakpoint
CREATE INDEX "work_job_key" ON "website_worker"."work" USING btree ("job","key","id");--> statement-breakpoint
CREATE INDEX "work_owed_unrung" ON "website_worker"."work" USING btree ("job","next_at","id") WHERE state = 'owed' AND rung_at IS NULL;--> statement-breakpoint
CREATE INDEX "work_owed_rung" ON "website_worker"."work" USING btree ("next_at","id") WHERE state = 'owed' AND rung_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "work_running" ON "website_worker"."work" USING btree ("lease_until") WHERE state = 'running';--> statement-breakpoint
CREATE INDEX "work_held" ON "website_worker"."work" USING btree ("job","site_id","reason","id") WHERE state = 'held';--> statement-breakpoint
CREATE INDEX "work_failed" ON "website_worker"."work" USING btree ("job","id") WHERE state = 'failed';--> statement-breakpoint
CREATE INDEX "work_finished" ON "website_worker"."work" USING btree ("finished_at") WHERE finished_at IS NOT NULL;
--> statement-breakpoint
INSERT INTO "website_worker"."installation" ("delivery_watermark", "adopted")
SELECT coalesce(max("id"), 0), EXISTS (SELECT FROM "public"."website_sites")
FROM "public"."website_webhook_deliveries";
--> statement-breakpoint
INSERT INTO "website_worker"."leader" DEFAULT VALUES;
--> statement-breakpoint
INSERT INTO "website_worker"."epoch" DEFAULT VALUES;
