-- The SQL contract. Callers need no grant on any table: the functions run as their owner, with a pinned search_path, and
-- set every timestamp themselves, so the caller's role, path and timezone change nothing. No literal holds a backslash,
-- since the caller's standard_conforming_strings would decide what it means.
GRANT USAGE ON SCHEMA website_worker TO PUBLIC;
--> statement-breakpoint
-- Accepts events in sets: the event, then one ledger row and one work item per webhook that wants it, in one statement.
-- p_rung promises that the caller rings, after its commit, every item whose workId it gets. Without p_wait an event for a
-- webhook whose row someone else has locked is left out as 'locked', so that it can't keep the others waiting.
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
  v_ids := ARRAY(
    SELECT coalesce(i.id, 'evt_' || replace(gen_random_uuid()::text, '-', ''))
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
  ), made AS MATERIALIZED (
    SELECT w.site_id, l.event_id, l.id, l.webhook_id,
      coalesce(h.reason, CASE WHEN w.is_active IS NOT TRUE THEN 'webhook disabled' END) AS reason,
      -- The host alone: user, path and query may hold a secret.
      left(w.event || ' → ' || coalesce(substring(translate(w.target_url, chr(92), '/')
        FROM '^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?([^/?#@[:space:][:cntrl:]]+)'), 'webhook ' || w.id), 120) AS label
    FROM ledger l
    JOIN public.website_webhooks w ON w.id = l.webhook_id
    JOIN holds h ON h.site_id = w.site_id
  ), items AS (
    INSERT INTO website_worker.work
      (job, key, site_id, payload, label, state, reason, trigger, next_at, rung_at, created_at)
    SELECT 'deliver-webhook', m.id::text, m.site_id, jsonb_build_object('deliveryId', m.id), m.label,
      CASE WHEN m.reason IS NULL THEN 'owed' ELSE 'held' END, m.reason, 'event', now(),
      CASE WHEN p_rung AND m.reason IS NULL THEN now() END, now()
    FROM made m ORDER BY m.id
    ON CONFLICT DO NOTHING
    RETURNING id, key, generation
  ), fanned_out AS (
    SELECT max(d.site_id) AS site_id, max(d.event_id) AS event_id, d.id, jsonb_build_object(
      'id', d.id, 'webhookId', max(d.webhook_id), 'status', max(d.status),
      'workId', max(d.work_id), 'generation', max(d.generation), 'label', max(d.label)) AS delivery
    FROM (
      SELECT m.site_id, m.event_id, m.id, m.webhook_id, CASE WHEN m.reason IS NULL THEN 'pending' ELSE 'held' END,
        null::bigint, null::int, m.label FROM made m
      UNION ALL
      SELECT null, null, i.key::int, null, null, i.id, i.generation, null FROM items i
    ) AS d(site_id, event_id, id, webhook_id, status, work_id, generation, label)
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
        'workId', null, 'generation', null, 'label', coalesce(k.label, e.event)) ORDER BY d.id) AS deliveries
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
-- Emits an event in the caller's own transaction: rolled back with it, found by the dispatcher once committed.
CREATE OR REPLACE FUNCTION website_worker.emit_event(site_id int, event text, data jsonb, id text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_events CONSTANT text[] := ARRAY['order.created', 'order.updated', 'payment.succeeded', 'payment.failed',
    'content.published', 'product.updated', 'customer.created'];
  v_body text;
  v_hash text;
  v_result record;
BEGIN
  IF emit_event.site_id IS NULL THEN
    RAISE EXCEPTION 'site_id is required' USING ERRCODE = '22023', COLUMN = 'site_id';
  ELSIF emit_event.event IS NULL OR emit_event.event <> ALL (v_events) THEN
    RAISE EXCEPTION 'event % is unknown; known events: %', coalesce(quote_literal(emit_event.event), 'null'),
      array_to_string(v_events, ', ') USING ERRCODE = '22023', COLUMN = 'event';
  ELSIF emit_event.data IS NULL THEN
    RAISE EXCEPTION 'data is required' USING ERRCODE = '22023', COLUMN = 'data', HINT = 'Any JSON value.';
  ELSIF emit_event.id !~ '^[A-Za-z0-9_-]{1,255}$' THEN
    RAISE EXCEPTION 'id % is not 1 to 255 letters, digits, "_" or "-"', quote_literal(left(emit_event.id, 300))
      USING ERRCODE = '22023', COLUMN = 'id';
  END IF;

  v_body := '{"type":' || to_json(emit_event.event)::text
    || ',"timestamp":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    || '","siteId":' || emit_event.site_id::text || ',"data":' || emit_event.data::text || '}';
  IF octet_length(v_body) > 262144 THEN
    RAISE EXCEPTION 'data is too large: % bytes of at most 262144', octet_length(v_body)
      USING ERRCODE = '22023', COLUMN = 'data';
  END IF;
  v_hash := encode(sha256(convert_to(
    emit_event.event || chr(10) || chr(10) || emit_event.data::text, 'UTF8')), 'hex');

  SELECT a.event_id, a.outcome INTO v_result FROM website_worker.accept_events(
    ARRAY[emit_event.site_id], ARRAY[emit_event.id], ARRAY[emit_event.event], ARRAY[v_body], ARRAY[v_hash], false, true) a;
  IF v_result.outcome = 'unknown_site' THEN
    RAISE EXCEPTION 'site % does not exist', emit_event.site_id USING ERRCODE = '22023', COLUMN = 'site_id';
  ELSIF v_result.outcome = 'conflict' THEN
    RAISE EXCEPTION 'event % of site % was emitted before with other content', quote_literal(v_result.event_id),
      emit_event.site_id USING ERRCODE = '23505', COLUMN = 'id';
  END IF;
  RETURN v_result.event_id;
END $$;
--> statement-breakpoint
-- Makes sure that a job is owed: a new work item, or the unfinished one with the same key.
-- p_rung promises that the caller rings, after its commit, the item it created.
CREATE OR REPLACE FUNCTION website_worker.enqueue_item(p_job text, p_payload jsonb, p_rung boolean, p_trigger text)
RETURNS TABLE (id bigint, job text, key text, site_id int, label text, state text, reason text, generation int,
  attempts int, next_at timestamptz, created boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  v_job website_worker.jobs%ROWTYPE;
  v_field text;
  v_value jsonb;
  v_parts text[] := '{}';
  v_key text;
  v_site int;
  v_subject int;
  v_found int := 0;
  v_reason text;
BEGIN
  SELECT j.* INTO v_job FROM website_worker.jobs j WHERE j.job = p_job;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'job % is unknown', coalesce(quote_literal(p_job), 'null')
      USING ERRCODE = '22023', COLUMN = 'job';
  ELSIF p_payload IS NULL OR jsonb_typeof(p_payload) <> 'object' THEN
    RAISE EXCEPTION 'payload of % must be an object', p_job USING ERRCODE = '22023', COLUMN = 'payload';
  ELSIF octet_length(p_payload::text) > 262144 THEN
    RAISE EXCEPTION 'payload of % is too large: % bytes of at most 262144', p_job, octet_length(p_payload::text)
      USING ERRCODE = '22023', COLUMN = 'payload';
  END IF;

  FOREACH v_field IN ARRAY v_job.key_fields LOOP
    v_value := p_payload -> v_field;
    IF v_value IS NULL OR jsonb_typeof(v_value) NOT IN ('number', 'string', 'boolean') THEN
      RAISE EXCEPTION 'payload of %: % is required', p_job, v_field
        USING ERRCODE = '22023', COLUMN = v_field, HINT = 'A number, a string or a boolean.';
    END IF;
    v_parts := v_parts || CASE jsonb_typeof(v_value)
      WHEN 'number' THEN trim_scale((v_value #>> '{}')::numeric)::text ELSE v_value #>> '{}' END;
  END LOOP;
  v_key := array_to_string(v_parts, ':');
  IF octet_length(v_key) > 1000 THEN
    RAISE EXCEPTION 'payload of %: % is too long', p_job, array_to_string(v_job.key_fields, ', ')
      USING ERRCODE = '22023', COLUMN = v_job.key_fields[1];
  END IF;

  IF v_job.subject_table IS NOT NULL THEN
    v_value := p_payload -> v_job.subject_field;
    IF jsonb_typeof(v_value) IS DISTINCT FROM 'number' OR (v_value #>> '{}') !~ '^[1-9][0-9]{0,9}$'
      OR (v_value #>> '{}')::bigint > 2147483647 THEN
      RAISE EXCEPTION 'payload of %: % must be the id of a row of %', p_job, v_job.subject_field, v_job.subject_table
        USING ERRCODE = '22023', COLUMN = v_job.subject_field;
    END IF;
    v_subject := (v_value #>> '{}')::int;
    EXECUTE CASE v_job.subject_table
      WHEN 'website_sites' THEN 'SELECT s.id FROM public.website_sites s WHERE s.id = $1 AND s.deleted_at IS NULL'
      WHEN 'website_form_submissions' THEN
        'SELECT f.site_id FROM public.website_form_submissions s JOIN public.website_forms f ON f.id = s.form_id WHERE s.id = $1'
      ELSE format('SELECT t.site_id FROM public.%I t WHERE t.id = $1', v_job.subject_table)
    END INTO v_site USING v_subject;
    GET DIAGNOSTICS v_found = ROW_COUNT;
    IF v_found = 0 THEN
      RAISE EXCEPTION 'payload of %: % %: no such row of %', p_job, v_job.subject_field, v_subject, v_job.subject_table
        USING ERRCODE = '22023', COLUMN = v_job.subject_field;
    END IF;
  END IF;
  v_reason := website_worker.hold_reason(v_job.domain, coalesce(v_site, 0));

  -- Uses work_unfinished_key. The insert waits for whoever is inserting the same key; its row is then visible to the
  -- second statement, unless it finished in between, and the next round inserts. The row that is there is neither
  -- changed nor locked: its run must be able to end while this caller's transaction stays open.
  LOOP
    RETURN QUERY INSERT INTO website_worker.work AS w
      (job, key, site_id, payload, label, state, reason, trigger, next_at, rung_at, created_at)
    VALUES (p_job, v_key, v_site, p_payload, left(rtrim(p_job || ' ' || v_key), 120),
      CASE WHEN v_reason IS NULL THEN 'owed' ELSE 'held' END, v_reason, p_trigger, now(),
      CASE WHEN p_rung AND v_reason IS NULL THEN now() END, now())
    ON CONFLICT (job, key) WHERE state IN ('owed', 'running', 'held') DO NOTHING
    RETURNING w.id, w.job, w.key, w.site_id, w.label, w.state, w.reason, w.generation, w.attempts, w.next_at, true;
    EXIT WHEN FOUND;
    SELECT w.id, w.job, w.key, w.site_id, w.label, w.state, w.reason, w.generation, w.attempts, w.next_at, false
      INTO id, job, key, site_id, label, state, reason, generation, attempts, next_at, created
      FROM website_worker.work w
      WHERE w.job = p_job AND w.key = v_key AND w.state IN ('owed', 'running', 'held');
    IF FOUND THEN
      -- Its run may begin, or even end, before this caller commits what it should see. A schedule has nothing to show.
      IF p_trigger <> 'schedule' THEN
        INSERT INTO website_worker.asked_again (work_id, asked_at) VALUES (enqueue_item.id, now());
      END IF;
      RETURN NEXT;
      EXIT;
    END IF;
  END LOOP;
END $$;
--> statement-breakpoint
-- Enqueues a job in the caller's own transaction; returns the work item's id.
CREATE OR REPLACE FUNCTION website_worker.enqueue(job text, payload jsonb)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_id bigint;
BEGIN
  IF NOT EXISTS (SELECT FROM website_worker.jobs j WHERE j.job = enqueue.job AND j.is_public) THEN
    RAISE EXCEPTION 'job % is unknown; known jobs: %', coalesce(quote_literal(enqueue.job), 'null'),
      (SELECT coalesce(string_agg(j.job, ', ' ORDER BY j.job), 'none') FROM website_worker.jobs j WHERE j.is_public)
      USING ERRCODE = '22023', COLUMN = 'job';
  END IF;
  SELECT i.id INTO v_id FROM website_worker.enqueue_item(enqueue.job, enqueue.payload, false, 'request') i;
  RETURN v_id;
END $$;
--> statement-breakpoint
REVOKE ALL ON FUNCTION website_worker.accept_events(int[], text[], text[], text[], text[], boolean, boolean),
  website_worker.enqueue_item(text, jsonb, boolean, text) FROM PUBLIC;
--> statement-breakpoint
GRANT EXECUTE ON FUNCTION website_worker.emit_event(int, text, jsonb, text), website_worker.enqueue(text, jsonb) TO PUBLIC;
