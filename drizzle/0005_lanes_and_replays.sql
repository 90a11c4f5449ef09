CREATE TABLE "website_worker"."lane_limits" (
	"lane" text PRIMARY KEY NOT NULL,
	"max_concurrent" integer,
	"requests_per_second" double precision,
	"changed_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."lanes" (
	"lane" text PRIMARY KEY NOT NULL,
	"window" integer NOT NULL,
	"opens" integer DEFAULT 0 NOT NULL,
	"open_until" timestamp with time zone,
	"paced_until" timestamp with time zone,
	"changed_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "website_worker"."webhook_replays" (
	"work_id" bigint PRIMARY KEY NOT NULL,
	"position" integer DEFAULT 0 NOT NULL,
	"last_id" integer NOT NULL,
	"total" integer NOT NULL,
	"replayed" integer DEFAULT 0 NOT NULL,
	"changed_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
DROP INDEX "website_worker"."webhook_attempts_delivery";--> statement-breakpoint
DROP INDEX "website_worker"."events_created_at";--> statement-breakpoint
DROP INDEX "website_worker"."webhook_attempts_at";--> statement-breakpoint
DROP INDEX "website_worker"."work_owed_unrung";--> statement-breakpoint
ALTER TABLE "website_worker"."webhook_attempts" DROP CONSTRAINT "webhook_attempts_pkey";--> statement-breakpoint
ALTER TABLE "website_worker"."webhook_attempts" ADD CONSTRAINT "webhook_attempts_delivery_id_id_pk" PRIMARY KEY("delivery_id","id");--> statement-breakpoint
ALTER TABLE "website_worker"."work" ADD COLUMN "lane" text;--> statement-breakpoint
CREATE INDEX "work_parked" ON "website_worker"."work" USING btree ("lane","next_at","id") WHERE state = 'owed' AND rung_at IS NULL AND lane IS NOT NULL;--> statement-breakpoint
CREATE INDEX "work_lane_rung" ON "website_worker"."work" USING btree ("lane") WHERE state = 'owed' AND rung_at IS NOT NULL AND lane IS NOT NULL;--> statement-breakpoint
CREATE INDEX "events_created_at" ON "website_worker"."events" USING brin ("created_at");--> statement-breakpoint
CREATE INDEX "webhook_attempts_at" ON "website_worker"."webhook_attempts" USING brin ("at");--> statement-breakpoint
CREATE INDEX "work_owed_unrung" ON "website_worker"."work" USING btree ("job","next_at","id") WHERE state = 'owed' AND rung_at IS NULL AND lane IS NULL;