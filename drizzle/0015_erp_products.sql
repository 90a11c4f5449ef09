-- What the ERP last said of a product, and which staged record gives way to another.
ALTER TABLE "website_worker"."erp_products" ADD COLUMN "status" text NOT NULL;--> statement-breakpoint
ALTER TABLE "website_worker"."erp_products" ADD COLUMN "shop_status" text;--> statement-breakpoint
ALTER TABLE "website_worker"."erp_products" ADD COLUMN "variants" text[] NOT NULL;--> statement-breakpoint
ALTER TABLE "website_worker"."erp_products" ADD COLUMN "categories" text[];--> statement-breakpoint
ALTER TABLE "website_worker"."retired_variants" ADD COLUMN "inventory_policy" text;--> statement-breakpoint
ALTER TABLE "website_worker"."sync_staging" ADD COLUMN "refusal" text;--> statement-breakpoint
CREATE UNIQUE INDEX "sync_staging_erp_id" ON "website_worker"."sync_staging" USING btree ("run_id","erp_id") WHERE erp_id IS NOT NULL;--> statement-breakpoint
-- Texts of staged products are read several times and soon forgotten: neither compressed nor moved out up to 8 kB.
ALTER TABLE "website_worker"."sync_staging" ALTER COLUMN "doc" SET STORAGE EXTERNAL;--> statement-breakpoint
ALTER TABLE "website_worker"."sync_staging" SET (toast_tuple_target = 8160);
