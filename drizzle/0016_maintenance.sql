CREATE TABLE "website_worker"."partition_changes" (
	"table_name" text NOT NULL,
	"seq" bigint GENERATED ALWAYS AS IDENTITY (sequence name "website_worker"."partition_changes_seq_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"id" integer,
	CONSTRAINT "partition_changes_table_name_seq_pk" PRIMARY KEY("table_name","seq")
);
--> statement-breakpoint
CREATE TABLE "website_worker"."partitioning" (
	"table_name" text PRIMARY KEY NOT NULL,
	"phase" text NOT NULL,
	"copied_through" integer NOT NULL,
	"verified_through" integer NOT NULL,
	"foreign_keys" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"started_at" timestamp with time zone DEFAULT now() NOT NULL,
	"swapped_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "website_worker"."archives" (
	"table_name" text NOT NULL,
	"month" date NOT NULL,
	"part" integer NOT NULL,
	"state" text NOT NULL,
	"file" text NOT NULL,
	"rows" bigint,
	"sha256" text,
	"error" text,
	"started_at" timestamp with time zone DEFAULT now() NOT NULL,
	"dropped_at" timestamp with time zone,
	CONSTRAINT "archives_table_name_month_part_pk" PRIMARY KEY("table_name","month","part")
);
