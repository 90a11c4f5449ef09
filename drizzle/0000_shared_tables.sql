-- The spec's tables in an order that works, made only where the main app has not made them.
-- Their indexes are in src/db/additions.ts: on a live table they must not be built in a migration's transaction.
CREATE TABLE IF NOT EXISTS "public"."users" (
	"id" serial PRIMARY KEY NOT NULL
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."partners" (
	"id" serial PRIMARY KEY NOT NULL
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_themes" (
	"id" serial PRIMARY KEY NOT NULL,
	"name" varchar(255) NOT NULL,
	"description" text,
	"is_default" boolean DEFAULT false,
	"css_variables" jsonb DEFAULT '{}'::jsonb,
	"custom_css" text,
	"preview_image_url" text,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_sites" (
	"id" serial PRIMARY KEY NOT NULL,
	"name" varchar(255) NOT NULL,
	"domain" varchar(255) NOT NULL,
	"subdomain" varchar(100),
	"locale" varchar(10) DEFAULT 'en',
	"timezone" varchar(50) DEFAULT 'UTC',
	"theme_id" integer,
	"settings" jsonb DEFAULT '{}'::jsonb,
	"status" varchar(20) DEFAULT 'active',
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"deleted_at" timestamp,
	CONSTRAINT "website_sites_domain_key" UNIQUE("domain"),
	CONSTRAINT "website_sites_status_check" CHECK (status IN ('active', 'inactive', 'maintenance')),
	CONSTRAINT "website_sites_theme_id_fkey" FOREIGN KEY ("theme_id") REFERENCES "public"."website_themes"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_domains" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"domain" varchar(255) NOT NULL,
	"is_primary" boolean DEFAULT false,
	"ssl_enabled" boolean DEFAULT true,
	"ssl_certificate" text,
	"ssl_expires_at" timestamp,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_domains_domain_key" UNIQUE("domain"),
	CONSTRAINT "website_domains_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_pages" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"slug" varchar(255) NOT NULL,
	"title" varchar(255) NOT NULL,
	"template" varchar(50),
	"blocks" jsonb DEFAULT '[]'::jsonb,
	"status" varchar(20) DEFAULT 'draft',
	"publish_at" timestamp,
	"published_at" timestamp,
	"seo_title" varchar(255),
	"seo_description" text,
	"seo_canonical_url" text,
	"seo_robots" varchar(100),
	"seo_keywords" text[],
	"meta_tags" jsonb DEFAULT '{}'::jsonb,
	"author_id" integer,
	"version" integer DEFAULT 1,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"deleted_at" timestamp,
	CONSTRAINT "website_pages_site_id_slug_key" UNIQUE("site_id","slug"),
	CONSTRAINT "website_pages_status_check" CHECK (status IN ('draft', 'published', 'scheduled', 'archived')),
	CONSTRAINT "website_pages_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE,
	CONSTRAINT "website_pages_author_id_fkey" FOREIGN KEY ("author_id") REFERENCES "public"."users"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_blocks" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"name" varchar(255) NOT NULL,
	"type" varchar(50) NOT NULL,
	"config" jsonb DEFAULT '{}'::jsonb,
	"is_global" boolean DEFAULT false,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"deleted_at" timestamp,
	CONSTRAINT "website_blocks_type_check" CHECK (type IN ('text', 'image', 'gallery', 'product', 'cta', 'form', 'video', 'heading', 'button')),
	CONSTRAINT "website_blocks_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_media" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"name" varchar(255) NOT NULL,
	"file_name" varchar(255) NOT NULL,
	"file_path" text NOT NULL,
	"file_url" text NOT NULL,
	"mime_type" varchar(100),
	"file_size" bigint,
	"width" integer,
	"height" integer,
	"alt_text" text,
	"description" text,
	"folder_path" text,
	"versions" jsonb DEFAULT '[]'::jsonb,
	"metadata" jsonb DEFAULT '{}'::jsonb,
	"uploaded_by" integer,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"deleted_at" timestamp,
	CONSTRAINT "website_media_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE,
	CONSTRAINT "website_media_uploaded_by_fkey" FOREIGN KEY ("uploaded_by") REFERENCES "public"."users"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_page_versions" (
	"id" serial PRIMARY KEY NOT NULL,
	"page_id" integer,
	"version" integer NOT NULL,
	"title" varchar(255),
	"blocks" jsonb,
	"seo_title" varchar(255),
	"seo_description" text,
	"author_id" integer,
	"comment" text,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_page_versions_page_id_version_key" UNIQUE("page_id","version"),
	CONSTRAINT "website_page_versions_page_id_fkey" FOREIGN KEY ("page_id") REFERENCES "public"."website_pages"("id") ON DELETE CASCADE,
	CONSTRAINT "website_page_versions_author_id_fkey" FOREIGN KEY ("author_id") REFERENCES "public"."users"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_products" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"erp_product_id" integer,
	"sku" varchar(100) NOT NULL,
	"name" varchar(255) NOT NULL,
	"description" text,
	"short_description" text,
	"price" numeric(10, 2) NOT NULL,
	"compare_at_price" numeric(10, 2),
	"cost" numeric(10, 2),
	"status" varchar(20) DEFAULT 'active',
	"is_featured" boolean DEFAULT false,
	"is_bestseller" boolean DEFAULT false,
	"weight" numeric(10, 2),
	"dimensions" jsonb,
	"attributes" jsonb DEFAULT '{}'::jsonb,
	"images" jsonb DEFAULT '[]'::jsonb,
	"seo_title" varchar(255),
	"seo_description" text,
	"seo_slug" varchar(255),
	"sync_status" varchar(20) DEFAULT 'pending',
	"last_synced_at" timestamp,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"deleted_at" timestamp,
	CONSTRAINT "website_products_site_id_sku_key" UNIQUE("site_id","sku"),
	CONSTRAINT "website_products_status_check" CHECK (status IN ('active', 'inactive', 'draft')),
	CONSTRAINT "website_products_sync_status_check" CHECK (sync_status IN ('synced', 'pending', 'error')),
	CONSTRAINT "website_products_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_product_variants" (
	"id" serial PRIMARY KEY NOT NULL,
	"product_id" integer,
	"sku" varchar(100) NOT NULL,
	"name" varchar(255),
	"price" numeric(10, 2),
	"compare_at_price" numeric(10, 2),
	"attributes" jsonb DEFAULT '{}'::jsonb,
	"image_url" text,
	"inventory_quantity" integer DEFAULT 0,
	"inventory_policy" varchar(20) DEFAULT 'deny',
	"weight" numeric(10, 2),
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_product_variants_product_id_sku_key" UNIQUE("product_id","sku"),
	CONSTRAINT "website_product_variants_inventory_policy_check" CHECK (inventory_policy IN ('deny', 'continue')),
	CONSTRAINT "website_product_variants_product_id_fkey" FOREIGN KEY ("product_id") REFERENCES "public"."website_products"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_categories" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"name" varchar(255) NOT NULL,
	"slug" varchar(255) NOT NULL,
	"description" text,
	"parent_id" integer,
	"image_url" text,
	"seo_title" varchar(255),
	"seo_description" text,
	"sort_order" integer DEFAULT 0,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"deleted_at" timestamp,
	CONSTRAINT "website_categories_site_id_slug_key" UNIQUE("site_id","slug"),
	CONSTRAINT "website_categories_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE,
	CONSTRAINT "website_categories_parent_id_fkey" FOREIGN KEY ("parent_id") REFERENCES "public"."website_categories"("id") ON DELETE SET NULL
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_product_categories" (
	"id" serial PRIMARY KEY NOT NULL,
	"product_id" integer,
	"category_id" integer,
	"is_primary" boolean DEFAULT false,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_product_categories_product_id_category_id_key" UNIQUE("product_id","category_id"),
	CONSTRAINT "website_product_categories_product_id_fkey" FOREIGN KEY ("product_id") REFERENCES "public"."website_products"("id") ON DELETE CASCADE,
	CONSTRAINT "website_product_categories_category_id_fkey" FOREIGN KEY ("category_id") REFERENCES "public"."website_categories"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_carts" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"session_id" varchar(255),
	"customer_id" integer,
	"currency" varchar(10) DEFAULT 'USD',
	"subtotal" numeric(10, 2) DEFAULT 0,
	"tax_amount" numeric(10, 2) DEFAULT 0,
	"shipping_amount" numeric(10, 2) DEFAULT 0,
	"discount_amount" numeric(10, 2) DEFAULT 0,
	"total" numeric(10, 2) DEFAULT 0,
	"promotion_code" varchar(50),
	"expires_at" timestamp,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_carts_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE,
	CONSTRAINT "website_carts_customer_id_fkey" FOREIGN KEY ("customer_id") REFERENCES "public"."partners"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_cart_items" (
	"id" serial PRIMARY KEY NOT NULL,
	"cart_id" integer,
	"product_id" integer,
	"variant_id" integer,
	"sku" varchar(100) NOT NULL,
	"name" varchar(255) NOT NULL,
	"quantity" integer DEFAULT 1 NOT NULL,
	"price" numeric(10, 2) NOT NULL,
	"subtotal" numeric(10, 2) NOT NULL,
	"attributes" jsonb DEFAULT '{}'::jsonb,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_cart_items_cart_id_fkey" FOREIGN KEY ("cart_id") REFERENCES "public"."website_carts"("id") ON DELETE CASCADE,
	CONSTRAINT "website_cart_items_product_id_fkey" FOREIGN KEY ("product_id") REFERENCES "public"."website_products"("id"),
	CONSTRAINT "website_cart_items_variant_id_fkey" FOREIGN KEY ("variant_id") REFERENCES "public"."website_product_variants"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_orders" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"order_number" varchar(100) NOT NULL,
	"erp_order_id" integer,
	"erp_order_ref" varchar(100),
	"customer_id" integer,
	"customer_email" varchar(255) NOT NULL,
	"status" varchar(50) DEFAULT 'pending',
	"payment_status" varchar(50) DEFAULT 'pending',
	"shipping_status" varchar(50) DEFAULT 'pending',
	"currency" varchar(10) DEFAULT 'USD',
	"subtotal" numeric(10, 2) DEFAULT 0,
	"tax_amount" numeric(10, 2) DEFAULT 0,
	"shipping_amount" numeric(10, 2) DEFAULT 0,
	"discount_amount" numeric(10, 2) DEFAULT 0,
	"total" numeric(10, 2) NOT NULL,
	"promotion_code" varchar(50),
	"shipping_address" jsonb NOT NULL,
	"billing_address" jsonb NOT NULL,
	"shipping_method" varchar(100),
	"payment_method" varchar(100),
	"payment_reference" varchar(255),
	"tracking_number" varchar(255),
	"notes" text,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_orders_order_number_key" UNIQUE("order_number"),
	CONSTRAINT "website_orders_status_check" CHECK (status IN ('pending', 'processing', 'paid', 'shipped', 'delivered', 'cancelled', 'refunded')),
	CONSTRAINT "website_orders_payment_status_check" CHECK (payment_status IN ('pending', 'paid', 'failed', 'refunded', 'partial')),
	CONSTRAINT "website_orders_shipping_status_check" CHECK (shipping_status IN ('pending', 'processing', 'shipped', 'delivered', 'cancelled')),
	CONSTRAINT "website_orders_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE,
	CONSTRAINT "website_orders_customer_id_fkey" FOREIGN KEY ("customer_id") REFERENCES "public"."partners"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_order_items" (
	"id" serial PRIMARY KEY NOT NULL,
	"order_id" integer,
	"product_id" integer,
	"variant_id" integer,
	"sku" varchar(100) NOT NULL,
	"name" varchar(255) NOT NULL,
	"quantity" integer NOT NULL,
	"price" numeric(10, 2) NOT NULL,
	"subtotal" numeric(10, 2) NOT NULL,
	"tax_amount" numeric(10, 2) DEFAULT 0,
	"total" numeric(10, 2) NOT NULL,
	"attributes" jsonb DEFAULT '{}'::jsonb,
	"product_snapshot" jsonb,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_order_items_order_id_fkey" FOREIGN KEY ("order_id") REFERENCES "public"."website_orders"("id") ON DELETE CASCADE,
	CONSTRAINT "website_order_items_product_id_fkey" FOREIGN KEY ("product_id") REFERENCES "public"."website_products"("id"),
	CONSTRAINT "website_order_items_variant_id_fkey" FOREIGN KEY ("variant_id") REFERENCES "public"."website_product_variants"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_order_status_history" (
	"id" serial PRIMARY KEY NOT NULL,
	"order_id" integer,
	"status" varchar(50) NOT NULL,
	"payment_status" varchar(50),
	"shipping_status" varchar(50),
	"notes" text,
	"changed_by" integer,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_order_status_history_order_id_fkey" FOREIGN KEY ("order_id") REFERENCES "public"."website_orders"("id") ON DELETE CASCADE,
	CONSTRAINT "website_order_status_history_changed_by_fkey" FOREIGN KEY ("changed_by") REFERENCES "public"."users"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_promotions" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"code" varchar(100) NOT NULL,
	"name" varchar(255) NOT NULL,
	"description" text,
	"discount_type" varchar(20) NOT NULL,
	"discount_value" numeric(10, 2) NOT NULL,
	"minimum_order_amount" numeric(10, 2),
	"maximum_discount_amount" numeric(10, 2),
	"valid_from" timestamp NOT NULL,
	"valid_until" timestamp,
	"usage_limit" integer,
	"usage_limit_per_customer" integer,
	"customer_segments" jsonb DEFAULT '[]'::jsonb,
	"product_ids" integer[],
	"category_ids" integer[],
	"is_active" boolean DEFAULT true,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_promotions_code_key" UNIQUE("code"),
	CONSTRAINT "website_promotions_discount_type_check" CHECK (discount_type IN ('percentage', 'fixed')),
	CONSTRAINT "website_promotions_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_promotion_usage" (
	"id" serial PRIMARY KEY NOT NULL,
	"promotion_id" integer,
	"order_id" integer,
	"customer_id" integer,
	"discount_amount" numeric(10, 2) NOT NULL,
	"used_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_promotion_usage_promotion_id_fkey" FOREIGN KEY ("promotion_id") REFERENCES "public"."website_promotions"("id") ON DELETE CASCADE,
	CONSTRAINT "website_promotion_usage_order_id_fkey" FOREIGN KEY ("order_id") REFERENCES "public"."website_orders"("id"),
	CONSTRAINT "website_promotion_usage_customer_id_fkey" FOREIGN KEY ("customer_id") REFERENCES "public"."partners"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_forms" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"name" varchar(255) NOT NULL,
	"slug" varchar(255) NOT NULL,
	"description" text,
	"fields" jsonb NOT NULL,
	"settings" jsonb DEFAULT '{}'::jsonb,
	"recaptcha_enabled" boolean DEFAULT true,
	"crm_lead_enabled" boolean DEFAULT true,
	"email_notifications" boolean DEFAULT true,
	"notification_emails" text[],
	"is_active" boolean DEFAULT true,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"deleted_at" timestamp,
	CONSTRAINT "website_forms_site_id_slug_key" UNIQUE("site_id","slug"),
	CONSTRAINT "website_forms_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_form_submissions" (
	"id" serial PRIMARY KEY NOT NULL,
	"form_id" integer,
	"data" jsonb NOT NULL,
	"ip_address" "inet",
	"user_agent" text,
	"status" varchar(20) DEFAULT 'new',
	"crm_lead_id" integer,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_form_submissions_status_check" CHECK (status IN ('new', 'processed', 'converted', 'archived')),
	CONSTRAINT "website_form_submissions_form_id_fkey" FOREIGN KEY ("form_id") REFERENCES "public"."website_forms"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_webhooks" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"name" varchar(255) NOT NULL,
	"event" varchar(100) NOT NULL,
	"target_url" text NOT NULL,
	"secret" varchar(255) NOT NULL,
	"headers" jsonb DEFAULT '{}'::jsonb,
	"is_active" boolean DEFAULT true,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_webhooks_event_check" CHECK (event IN ('order.created', 'order.updated', 'payment.succeeded', 'payment.failed', 'content.published', 'product.updated', 'customer.created')),
	CONSTRAINT "website_webhooks_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_webhook_deliveries" (
	"id" serial PRIMARY KEY NOT NULL,
	"webhook_id" integer,
	"event_id" varchar(255),
	"status_code" integer,
	"response_body" text,
	"error_message" text,
	"attempts" integer DEFAULT 1,
	"delivered_at" timestamp,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_webhook_deliveries_webhook_id_fkey" FOREIGN KEY ("webhook_id") REFERENCES "public"."website_webhooks"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_integrations" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"type" varchar(50) NOT NULL,
	"provider" varchar(100) NOT NULL,
	"name" varchar(255) NOT NULL,
	"config" jsonb NOT NULL,
	"is_active" boolean DEFAULT true,
	"is_default" boolean DEFAULT false,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	"updated_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_integrations_type_check" CHECK (type IN ('payment', 'shipping', 'analytics', 'crm', 'email')),
	CONSTRAINT "website_integrations_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_sync_logs" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"sync_type" varchar(50) NOT NULL,
	"entity_type" varchar(50),
	"entity_id" integer,
	"status" varchar(20) DEFAULT 'pending',
	"error_message" text,
	"data_snapshot" jsonb,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_sync_logs_sync_type_check" CHECK (sync_type IN ('product', 'inventory', 'customer', 'order', 'price')),
	CONSTRAINT "website_sync_logs_status_check" CHECK (status IN ('success', 'error', 'pending')),
	CONSTRAINT "website_sync_logs_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_pageviews" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"page_id" integer,
	"page_url" text NOT NULL,
	"page_title" varchar(255),
	"referrer" text,
	"user_agent" text,
	"ip_address" "inet",
	"session_id" varchar(255),
	"customer_id" integer,
	"utm_source" varchar(100),
	"utm_medium" varchar(100),
	"utm_campaign" varchar(100),
	"utm_term" varchar(100),
	"utm_content" varchar(100),
	"country" varchar(2),
	"device_type" varchar(20),
	"browser" varchar(50),
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_pageviews_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE,
	CONSTRAINT "website_pageviews_page_id_fkey" FOREIGN KEY ("page_id") REFERENCES "public"."website_pages"("id"),
	CONSTRAINT "website_pageviews_customer_id_fkey" FOREIGN KEY ("customer_id") REFERENCES "public"."partners"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_events" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"event_type" varchar(100) NOT NULL,
	"event_name" varchar(255) NOT NULL,
	"properties" jsonb DEFAULT '{}'::jsonb,
	"session_id" varchar(255),
	"customer_id" integer,
	"page_url" text,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_events_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE,
	CONSTRAINT "website_events_customer_id_fkey" FOREIGN KEY ("customer_id") REFERENCES "public"."partners"("id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "public"."website_audit_logs" (
	"id" serial PRIMARY KEY NOT NULL,
	"site_id" integer,
	"user_id" integer,
	"action" varchar(100) NOT NULL,
	"resource_type" varchar(50) NOT NULL,
	"resource_id" integer,
	"resource_name" varchar(255),
	"changes" jsonb,
	"ip_address" "inet",
	"user_agent" text,
	"created_at" timestamp DEFAULT CURRENT_TIMESTAMP,
	CONSTRAINT "website_audit_logs_site_id_fkey" FOREIGN KEY ("site_id") REFERENCES "public"."website_sites"("id") ON DELETE CASCADE,
	CONSTRAINT "website_audit_logs_user_id_fkey" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id")
);
