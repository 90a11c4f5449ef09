-- The delivery log as the main app reads it: one row per delivery, with the words of the API. The view reads with its
-- owner's rights, so its readers need none of ours, and shows its rows to whoever may read the ledger itself, also to roles
-- that come later: the last condition is asked once for each statement. Uses the ledger's primary key or its index on
-- (webhook_id, id), whichever the reader's condition allows; laterally work_job_key and primary keys for each row.
CREATE OR REPLACE VIEW public.website_webhook_delivery_log AS
SELECT d.id, d.webhook_id, w.site_id, d.event_id, coalesce(e.event, w.event) AS event,
  CASE WHEN k.state IN ('owed', 'running') THEN 'pending' WHEN k.state = 'held' THEN 'held'
       WHEN d.delivered_at IS NOT NULL THEN 'delivered' WHEN k.state = 'cancelled' THEN 'cancelled'
       ELSE 'failed' END AS status,
  CASE WHEN k.state IN ('held', 'cancelled') THEN k.reason END AS reason,
  d.status_code, coalesce(d.attempts, 0) AS attempts,
  CASE WHEN k.state = 'owed' THEN k.next_at AT TIME ZONE 'UTC' END AS next_at,
  d.error_message, d.response_body, d.created_at, d.delivered_at
FROM public.website_webhook_deliveries d
LEFT JOIN public.website_webhooks w ON w.id = d.webhook_id
LEFT JOIN LATERAL (
  SELECT e.event FROM website_worker.events e WHERE e.site_id = w.site_id AND e.id = d.event_id LIMIT 1
) e ON true
LEFT JOIN LATERAL (
  SELECT k.state, k.reason, k.next_at FROM website_worker.work k
  WHERE k.job = 'deliver-webhook' AND k.key = d.id::text ORDER BY k.id DESC LIMIT 1
) k ON true
WHERE has_table_privilege('public.website_webhook_deliveries', 'SELECT');
--> statement-breakpoint
COMMENT ON VIEW public.website_webhook_delivery_log IS 'Made by website-worker';
--> statement-breakpoint
GRANT SELECT ON public.website_webhook_delivery_log TO PUBLIC;
