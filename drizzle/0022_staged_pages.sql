ALTER TABLE "website_worker"."sync_staging" ADD COLUMN "page" text;--> statement-breakpoint
-- It lies there for a moment: compressing it would take longer than writing it.
ALTER TABLE "website_worker"."sync_staging" ALTER COLUMN "page" SET STORAGE EXTERNAL;
