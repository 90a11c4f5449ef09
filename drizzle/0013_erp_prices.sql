CREATE TABLE "website_worker"."retired_variants" (
	"variant_id" integer PRIMARY KEY NOT NULL
);
--> statement-breakpoint
DROP INDEX "website_worker"."product_changes_site";--> statement-breakpoint
ALTER TABLE "website_worker"."erp_prices" ADD COLUMN "says_compare_at" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "product_changes_product" ON "website_worker"."product_changes" USING btree ("site_id","product_id");