-- The origin of a URL as its deliveries share it: scheme, host and port in lower case, without the scheme's own port, and
-- without user, path and query, which may hold a secret, as may a port that is no number. Null for what has none. Tabs and
-- line breaks don't count, and no host ends before a URL parser ends it: nobody's deliveries may count as another's.
CREATE OR REPLACE FUNCTION website_worker.lane_of(url text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
  SELECT regexp_replace(lower(
    substring(u.url FROM '^([A-Za-z][A-Za-z0-9+.-]*://)') ||
    substring(u.url FROM '^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?((?:[^]/?#@:[[:space:][:cntrl:]]{1,255}|[[][0-9A-Fa-f:.]{2,50}[]])(?::[0-9]{1,5})?)(?:[/?#]|$)')),
    '^(http:.*):80$|^(https:.*):443$', concat(chr(92), '1', chr(92), '2'))
  FROM (SELECT translate(url, concat(chr(92), chr(9), chr(10), chr(13)), '/') AS url) u
$$;
--> statement-breakpoint
-- Whether what is owed to an origin waits for its turn in a lane: it can't take all of it now, or a person set a limit.
-- Uses lanes_pkey and lane_limits_pkey.
CREATE OR REPLACE FUNCTION website_worker.is_managed(lane text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM website_worker.lanes l WHERE l.lane = $1) OR coalesce((
    SELECT m.max_concurrent IS NOT NULL OR m.requests_per_second IS NOT NULL FROM website_worker.lane_limits m
    WHERE m.lane IN ($1, '*') ORDER BY m.lane = '*' LIMIT 1), false)
$$;
--> statement-breakpoint
-- Accepts events in sets: the event, then one ledger row and one work item per webhook that wants it, in one statement.
-- p_rung promises that the caller rings, after its commit, every item whose workId it gets. Without p_wait an event for a
-- webhook whose row someone else has locked is left out as 'locked', so that it can't keep the others waiting. A delivery
-- whose origin can't take all that is owed to it waits in its lane: it has no workId, and its turn may have come.
CREATE OR REPLACE FUNCTION website_worker.accept_events(
  p_sites int[], p_ids text[], p_events text[], p_bodies text[], p_hashes text[], p_rung boolean, p_wait boolean
) RETURNS TABLE (ord int, event_id text, outcome text, deliveries jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  v_ids text[];
  v_locked text[] := '{}';
  v_fresh jsonb;
  v_accepted int;
  v_watermark bigint;
BEGIN
  -- Ids that are made begin with the time, so that they go in at the end of their indexes.
  v_ids := ARRAY(
    SELECT coalesce(i.id, 'evt_' || lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0')
      || substr(replace(gen_random_uuid()::text, '-', ''), 1, 20))
    FROM unnest(p_sites, p_ids) WITH ORDINALITY AS i(site, id, n) ORDER BY i.n
  );

  -- Locks what it can, for as long as the caller's transaction lasts. Uses idx_website_webhooks_site_id,
  -- webhook_health_pkey and website_webhooks_pkey.
  IF NOT p_wait THEN
    v_locked := ARRAY(
      WITH wanted AS MATERIALIZED (
        SELECT w.id, w.site_id, w.event
        FROM (SELECT DISTINCT i.site, i.event FROM unnest(p_sites, p_events) AS i(site, event)) i
        JOIN public.website_webhooks w ON w.site_id = i.site AND w.event = i.event
        LEFT JOIN website_worker.webhook_health wh ON wh.webhook_id = w.id
        WHERE w.is_active OR wh.disabled_at IS NOT NULL
      ), free AS MATERIALIZED (
        SELECT w.id FROM public.website_webhooks w WHERE w.id IN (SELECT wanted.id FROM wanted)
        FOR KEY SHARE OF w SKIP LOCKED
      )
      SELECT DISTINCT wanted.site_id || ':' || wanted.event FROM wanted
      WHERE wanted.id NOT IN (SELECT free.id FROM free));
  END IF;

  -- Rows go in by (site, id), so that concurrent batches wait for each other instead of deadlocking; a webhook that is
  -- being deleted is waited for and left out. Results of inserts meet in a GROUP BY, since the planner takes them for a
  -- few rows and would join them with nested loops. Uses events_site_id_id_pk, website_sites_pkey, website_webhooks_pkey
  -- and idx_website_webhooks_site_id.
  WITH candidates AS (
    SELECT DISTINCT ON (i.site, i.id) i.site, i.id, i.event, i.body, i.hash
    FROM unnest(p_sites, v_ids, p_events, p_bodies, p_hashes) WITH ORDINALITY AS i(site, id, event, body, hash, n)
    JOIN public.website_sites s ON s.id = i.site AND s.deleted_at IS NULL
    WHERE i.site || ':' || i.event <> ALL (v_locked)
    ORDER BY i.site, i.id, i.n
  ), accepted AS (
    INSERT INTO website_worker.events (site_id, id, event, body, hash, created_at)
    SELECT c.site, c.id, c.event, c.body, c.hash, now() FROM candidates c ORDER BY c.site, c.id
    ON CONFLICT DO NOTHING
    RETURNING site_id, id, event
  ), holds AS MATERIALIZED (
    SELECT a.site_id, website_worker.hold_reason('webhooks', a.site_id) AS reason
    FROM (SELECT DISTINCT accepted.site_id FROM accepted) a
  ), wanted AS MATERIALIZED (
    SELECT a.site_id, a.id AS event_id, w.id AS webhook_id
    FROM accepted a
    JOIN public.website_webhooks w ON w.site_id = a.site_id AND w.event = a.event
    LEFT JOIN website_worker.webhook_health wh ON wh.webhook_id = w.id
    WHERE w.is_active OR wh.disabled_at IS NOT NULL
    FOR KEY SHARE OF w
  ), ledger AS (
    INSERT INTO public.website_webhook_deliveries (webhook_id, event_id, attempts, created_at)
    SELECT w.webhook_id, w.event_id, 0, now() AT TIME ZONE 'UTC' FROM wanted w
    ORDER BY w.site_id, w.event_id, w.webhook_id
    ON CONFLICT DO NOTHING
    RETURNING id, webhook_id, event_id
  ), hooks AS MATERIALIZED (
    SELECT h.id, h.site_id, o.reason, h.is_active,
      CASE WHEN website_worker.is_managed(h.lane) THEN h.lane END AS lane,
      -- The host alone: user, path and query may hold a secret.
      left(h.event || ' → ' || coalesce(substring(h.lane FROM '//(.+)$'), 'webhook ' || h.id), 120) AS label
    FROM (
      SELECT w.id, w.site_id, w.event, w.is_active, website_worker.lane_of(w.target_url) AS lane
      FROM public.website_webhooks w WHERE w.id IN (SELECT wanted.webhook_id FROM wanted)
    ) h
    JOIN holds o ON o.site_id = h.site_id
  ), made AS MATERIALIZED (
    SELECT h.site_id, l.event_id, l.id, l.webhook_id, h.lane, h.label,
      coalesce(h.reason, CASE WHEN h.is_active IS NOT TRUE THEN 'webhook disabled' END) AS reason
    FROM ledger l JOIN hooks h ON h.id = l.webhook_id
  ), items AS (
    INSERT INTO website_worker.work
      (job, key, site_id, payload, label, state, reason, lane, trigger, next_at, rung_at, created_at)
    SELECT 'deliver-webhook', m.id::text, m.site_id, jsonb_build_object('deliveryId', m.id), m.label,
      CASE WHEN m.reason IS NULL THEN 'owed' ELSE 'held' END, m.reason, m.lane, 'event', now(),
      CASE WHEN p_rung AND m.reason IS NULL AND m.lane IS NULL THEN now() END, now()
    FROM made m ORDER BY m.id
    ON CONFLICT DO NOTHING
    RETURNING CASE WHEN lane IS NULL THEN id END AS id, key, generation
  ), fanned_out AS (
    SELECT max(d.site_id) AS site_id, max(d.event_id) AS event_id, d.id, jsonb_build_object(
      'id', d.id, 'webhookId', max(d.webhook_id), 'status', max(d.status),
      'workId', max(d.work_id), 'generation', max(d.generation), 'label', max(d.label), 'lane', max(d.lane)) AS delivery
    FROM (
      SELECT m.site_id, m.event_id, m.id, m.webhook_id, CASE WHEN m.reason IS NULL THEN 'pending' ELSE 'held' END,
        null::bigint, null::int, m.label, m.lane FROM made m
      UNION ALL
      SELECT null, null, i.key::int, null, null, i.id, i.generation, null, null FROM items i
    ) AS d(site_id, event_id, id, webhook_id, status, work_id, generation, label, lane)
    GROUP BY d.id
  ), fresh AS (
    SELECT f.site_id || ':' || f.event_id AS key,
      coalesce(jsonb_agg(f.delivery ORDER BY f.id) FILTER (WHERE f.id IS NOT NULL), '[]') AS deliveries
    FROM (
      SELECT a.site_id, a.id, null::int, null::jsonb FROM accepted a
      UNION ALL
      SELECT o.site_id, o.event_id, o.id, o.delivery FROM fanned_out o
    ) AS f(site_id, event_id, id, delivery)
    GROUP BY f.site_id, f.event_id
  )
  SELECT count(*), coalesce(jsonb_object_agg(f.key, f.deliveries), '{}') INTO v_accepted, v_fresh FROM fresh f;

  IF v_accepted = cardinality(v_ids) THEN
    RETURN QUERY SELECT i.n::int, i.id, 'accepted', v_fresh -> (i.site || ':' || i.id)
      FROM unnest(p_sites, v_ids) WITH ORDINALITY AS i(site, id, n) ORDER BY i.n;
    RETURN;
  END IF;

  -- A statement of its own, for a snapshot that sees what the insert above waited for; the watermark as a literal, for
  -- the ledger's partial unique index. Also uses work_job_key.
  SELECT coalesce(max(x.delivery_watermark), 0) INTO v_watermark FROM website_worker.installation x;
  RETURN QUERY EXECUTE format($q$
    SELECT i.n::int, i.id,
      CASE WHEN i.deliveries IS NOT NULL THEN 'accepted' WHEN e.hash = i.hash THEN 'replayed'
        WHEN e.hash IS NOT NULL THEN 'conflict' WHEN i.site || ':' || i.event = ANY ($5) THEN 'locked'
        ELSE 'unknown_site' END,
      coalesce(i.deliveries, d.deliveries, '[]')
    FROM (
      SELECT r.n, r.site, r.id, r.event, r.hash,
        CASE row_number() OVER (PARTITION BY r.site, r.id ORDER BY r.site || ':' || r.event = ANY ($5), r.n)
          WHEN 1 THEN $4 -> (r.site || ':' || r.id) END
      FROM unnest($1, $2, $6, $3) WITH ORDINALITY AS r(site, id, event, hash, n)
    ) AS i(n, site, id, event, hash, deliveries)
    LEFT JOIN public.website_sites s ON s.id = i.site AND s.deleted_at IS NULL
    LEFT JOIN website_worker.events e ON e.site_id = s.id AND e.id = i.id
    LEFT JOIN LATERAL (
      SELECT jsonb_agg(jsonb_build_object(
        'id', d.id, 'webhookId', d.webhook_id, 'status', CASE k.state WHEN 'held' THEN 'held' ELSE 'pending' END,
        'workId', null, 'generation', null, 'label', coalesce(k.label, e.event), 'lane', null) ORDER BY d.id) AS deliveries
      FROM public.website_webhooks w
      JOIN public.website_webhook_deliveries d ON d.webhook_id = w.id AND d.event_id = e.id AND d.id > %s
      LEFT JOIN LATERAL (
        SELECT k.state, k.label FROM website_worker.work k
        WHERE k.job = 'deliver-webhook' AND k.key = d.id::text ORDER BY k.id DESC LIMIT 1
      ) k ON true
      WHERE w.site_id = e.site_id AND e.hash = i.hash AND i.deliveries IS NULL
    ) d ON true
    ORDER BY i.n
  $q$, v_watermark) USING p_sites, v_ids, p_hashes, v_fresh, v_locked, p_events;
END $$;
--> statement-breakpoint
REVOKE ALL ON FUNCTION website_worker.lane_of(text), website_worker.is_managed(text) FROM PUBLIC;
