-- How each stream fares, and what pushes were answered with.
ALTER TABLE "website_worker"."erp_pushes" ADD COLUMN "hash" text NOT NULL;--> statement-breakpoint
ALTER TABLE "website_worker"."erp_pushes" ADD COLUMN "job" text NOT NULL;--> statement-breakpoint
ALTER TABLE "website_worker"."erp_pushes" ADD COLUMN "work_id" bigint NOT NULL;--> statement-breakpoint
ALTER TABLE "website_worker"."sync_checkpoints" ADD COLUMN "succeeded_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "website_worker"."sync_checkpoints" ADD COLUMN "failed_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "website_worker"."sync_checkpoints" ADD COLUMN "error" text;--> statement-breakpoint
ALTER TABLE "website_worker"."sync_checkpoints" ADD COLUMN "logged_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "website_worker"."sync_checkpoints" ADD COLUMN "drift" integer;--> statement-breakpoint
ALTER TABLE "website_worker"."sync_checkpoints" ADD COLUMN "audited_at" timestamp with time zone;