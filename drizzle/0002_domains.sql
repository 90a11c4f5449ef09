-- Where sites stood before us every domain waits for `website-worker enable`; elsewhere all are on.
INSERT INTO "website_worker"."domains" ("domain", "site_id", "enabled")
SELECT "name", 0, NOT "adopted"
FROM "website_worker"."installation",
	unnest(ARRAY['webhooks', 'erp', 'publishing', 'leads', 'notifications', 'rollups', 'maintenance']) AS "name";
--> statement-breakpoint
-- Why work of a domain waits at a site, or NULL: the site's own row wins over the row of all sites (0).
CREATE OR REPLACE FUNCTION website_worker.hold_reason(domain text, site integer) RETURNS text
LANGUAGE sql STABLE
AS $$
	SELECT CASE WHEN NOT d.enabled THEN 'domain off' WHEN d.paused THEN 'paused' END
	FROM website_worker.domains d
	WHERE d.domain = $1 AND d.site_id IN (0, $2)
	ORDER BY d.site_id DESC
	LIMIT 1
$$;
