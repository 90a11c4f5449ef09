-- How fresh the analytics of each site are, for whoever may read its pageviews: the view reads with its owner's rights, so
-- its readers need none of ours. Everything committed by rolled_through is counted; dirty_hours, up to 10,000 of them, are
-- still to be computed anew; what began before sealed_before stays as it is, and late_rows came too late to count. Uses
-- website_sites_pkey or its reader's condition, rollup_sites_pkey, analytics_late_pkey, and analytics_dirty_pkey from hour
-- to hour: a busy hour has many entries.
CREATE VIEW public.website_analytics_freshness AS
SELECT s.id AS site_id, coalesce(website_worker.zone_of(s.timezone), 'UTC') AS timezone, r.rolled_through, d.dirty_hours, r.sealed_before, l.late_rows
FROM public.website_sites s
LEFT JOIN website_worker.rollup_sites r ON r.site_id = s.id
CROSS JOIN LATERAL (
  WITH RECURSIVE dirty (hour) AS (
    (SELECT d.hour FROM website_worker.analytics_dirty d WHERE d.site_id = s.id ORDER BY d.hour LIMIT 1)
    UNION ALL
    SELECT n.hour FROM dirty p CROSS JOIN LATERAL (
      SELECT d.hour FROM website_worker.analytics_dirty d WHERE d.site_id = s.id AND d.hour > p.hour ORDER BY d.hour LIMIT 1) n
  )
  SELECT count(*)::int AS dirty_hours FROM (SELECT FROM dirty LIMIT 10000) few
) d
CROSS JOIN LATERAL (
  SELECT coalesce(sum(a.rows), 0)::bigint AS late_rows FROM website_worker.analytics_late a WHERE a.site_id = s.id
) l
WHERE has_table_privilege('public.website_pageviews', 'SELECT');
--> statement-breakpoint
COMMENT ON VIEW public.website_analytics_freshness IS 'Made by website-worker';
--> statement-breakpoint
GRANT SELECT ON public.website_analytics_freshness TO PUBLIC;
--> statement-breakpoint
-- Readers that count hours need to know when a site's days begin.
GRANT EXECUTE ON FUNCTION website_worker.zone_of(text), website_worker.instant_of(timestamp, text) TO PUBLIC;
