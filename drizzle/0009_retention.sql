DROP INDEX "website_worker"."events_created_at";--> statement-breakpoint
DROP INDEX "website_worker"."webhook_attempts_at";--> statement-breakpoint
CREATE INDEX "events_emptied" ON "website_worker"."events" USING btree ("created_at") WHERE body IS NULL;