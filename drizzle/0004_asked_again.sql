CREATE TABLE "website_worker"."asked_again" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "website_worker"."asked_again_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"work_id" bigint NOT NULL,
	"asked_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE INDEX "asked_again_work" ON "website_worker"."asked_again" USING btree ("work_id","id");--> statement-breakpoint
CREATE INDEX "events_body_kept" ON "website_worker"."events" USING btree ("created_at") WHERE body IS NOT NULL;