-- Publishing pages. A page's own row says when it is due (`status = 'scheduled'`, `publish_at`); asking for it writes that
-- row, in the transaction that owes the work.
CREATE TABLE "website_worker"."page_requests" (
	"page_id" integer PRIMARY KEY NOT NULL,
	"publish_at" timestamp with time zone NOT NULL,
	"version" integer,
	"work_id" bigint
);
--> statement-breakpoint
CREATE INDEX "page_requests_to_move" ON "website_worker"."page_requests" USING btree ("page_id") WHERE work_id IS NOT NULL;
--> statement-breakpoint
-- Pages that are overdue before anything published them are not owed: publishing was on here, without a job.
UPDATE website_worker.domains
SET watermark = floor(extract(epoch FROM clock_timestamp()) * 1000), changed_at = now()
WHERE domain = 'publishing' AND enabled AND watermark = 0
  AND EXISTS (SELECT FROM public.website_pages WHERE status = 'scheduled')
  AND NOT EXISTS (SELECT FROM website_worker.work WHERE job = 'publish-page');
--> statement-breakpoint
-- The instant of wall time in a zone: what a clock skips is as much later as it skips, and what it shows twice is the
-- first. Postgres alone takes the second, an instant with another offset than the day before.
CREATE OR REPLACE FUNCTION website_worker.instant_of(wall timestamp, zone text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN (f.earlier AT TIME ZONE zone) = wall THEN least(f.earlier, l.later) ELSE l.later END
  FROM (SELECT (wall AT TIME ZONE zone) AS later) l
  CROSS JOIN LATERAL (SELECT l.later - interval '24 hours' AS at) b
  CROSS JOIN LATERAL (
    SELECT (wall - ((b.at AT TIME ZONE zone) - (b.at AT TIME ZONE 'UTC'))) AT TIME ZONE 'UTC' AS earlier) f
$$;
--> statement-breakpoint
-- How the payload of an item says when its page is due: told apart as text, since any text may stand in a payload. Without
-- a pinned path, so that it is inlined; only we call it.
CREATE OR REPLACE FUNCTION website_worker.instant_text(at timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
  SELECT pg_catalog.to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;
--> statement-breakpoint
-- Reads `publishAt` of a request: an instant, or wall time of the page's site. Uses website_sites_pkey.
CREATE OR REPLACE FUNCTION website_worker.read_publish_at(p_payload jsonb, p_site int) RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_text CONSTANT text := p_payload ->> 'publishAt';
  v_zone text;
  v_at timestamptz;
BEGIN
  IF NOT p_payload ? 'publishAt' THEN RETURN NULL; END IF;
  IF jsonb_typeof(p_payload -> 'publishAt') <> 'string' OR v_text !~ ('^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]'
    || '(:[0-5][0-9]([.][0-9]{1,9})?)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?$') THEN
    RAISE EXCEPTION 'payload of publish-page: publishAt % is neither an instant nor wall time',
      left(p_payload ->> 'publishAt', 100)
      USING ERRCODE = '22023', COLUMN = 'publishAt', HINT = 'Like 2026-03-01T09:30:00Z, or 2026-03-01T09:30 in the timezone of the site.';
  END IF;
  IF v_text !~ '(Z|[+-][0-9]{2}:[0-9]{2})$' THEN
    SELECT coalesce(nullif(s.timezone, ''), 'UTC') INTO v_zone FROM public.website_sites s WHERE s.id = p_site;
    v_zone := coalesce(v_zone, 'UTC');
    BEGIN
      -- 'UTC+3' would be taken for what POSIX means by it, three hours west.
      IF v_zone !~ '^[A-Za-z_]+(/[A-Za-z0-9_+-]+)*$|^[A-Z]{3}[0-9][A-Z]{3}$' THEN
        RAISE invalid_parameter_value;
      END IF;
      PERFORM now() AT TIME ZONE v_zone;
    EXCEPTION WHEN data_exception THEN
      RAISE EXCEPTION 'payload of publish-page: publishAt is wall time, and the timezone % of site % is unknown',
        quote_literal(v_zone), p_site
        USING ERRCODE = '22023', COLUMN = 'publishAt', HINT = 'Give an instant, like 2026-03-01T09:30:00Z.';
    END;
  END IF;
  BEGIN
    v_at := CASE WHEN v_zone IS NULL THEN v_text::timestamptz ELSE website_worker.instant_of(v_text::timestamp, v_zone) END;
  EXCEPTION WHEN data_exception THEN
    RAISE EXCEPTION 'payload of publish-page: publishAt % does not exist', v_text
      USING ERRCODE = '22023', COLUMN = 'publishAt';
  END;
  RETURN v_at;
END $$;
--> statement-breakpoint
-- Writes into the row of a page when it is to be published, and returns the payload with that instant. Without `publishAt`
-- the time of a page that is scheduled stands, and any other page is due now; a published page stays as it is, and takes no
-- later time. The lock on the row also keeps discovery from waiting for the item that this transaction makes. Anyone may enqueue: only who may
-- write these columns without us may have them written. Uses website_pages_pkey.
CREATE OR REPLACE FUNCTION website_worker.schedule_page(
  p_page int, p_payload jsonb, OUT payload jsonb, OUT publish_at timestamptz
) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  v_page record;
  v_version CONSTANT text := p_payload ->> 'version';
  -- The role of whoever calls: here current_user is the owner.
  v_role CONSTANT name := coalesce(nullif(current_setting('role'), 'none')::name, session_user);
BEGIN
  IF NOT (has_column_privilege(v_role, 'public.website_pages', 'status', 'UPDATE')
    AND has_column_privilege(v_role, 'public.website_pages', 'publish_at', 'UPDATE')) THEN
    RAISE EXCEPTION 'role % may not publish pages: it needs UPDATE on status and publish_at of website_pages',
      quote_ident(v_role) USING ERRCODE = '42501';
  END IF;
  IF jsonb_typeof(p_payload -> 'version') <> 'number' OR v_version !~ '^[1-9][0-9]{0,9}$'
    OR (CASE WHEN v_version ~ '^[0-9]{1,10}$' THEN v_version::bigint END) > 2147483647 THEN
    RAISE EXCEPTION 'payload of publish-page: version % is not the number of a version', v_version
      USING ERRCODE = '22023', COLUMN = 'version';
  END IF;
  SELECT p.site_id, p.status, p.publish_at AT TIME ZONE 'UTC' AS publish_at, p.deleted_at INTO v_page
    FROM public.website_pages p WHERE p.id = p_page FOR NO KEY UPDATE;
  IF NOT FOUND OR v_page.deleted_at IS NOT NULL THEN
    RAISE EXCEPTION 'payload of publish-page: pageId %: no such row of website_pages', p_page
      USING ERRCODE = '22023', COLUMN = 'pageId';
  END IF;

  publish_at := coalesce(website_worker.read_publish_at(p_payload, v_page.site_id),
    CASE WHEN v_page.status = 'scheduled' THEN v_page.publish_at END, now());
  IF publish_at NOT BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 00:00:00+00' THEN
    RAISE EXCEPTION 'payload of publish-page: publishAt % is out of range', publish_at AT TIME ZONE 'UTC'
      USING ERRCODE = '22023', COLUMN = 'publishAt';
  END IF;
  payload := p_payload || jsonb_build_object('publishAt', website_worker.instant_text(publish_at));
  IF v_page.status = 'published' THEN
    IF publish_at > now() THEN
      RAISE EXCEPTION 'page % is published already: it can''t be published again at %', p_page, p_payload ->> 'publishAt'
        USING ERRCODE = '55000', COLUMN = 'publishAt', HINT = 'Put it back to draft first.';
    END IF;
    RETURN;
  END IF;

  IF v_page.status IS DISTINCT FROM 'scheduled' OR v_page.publish_at IS DISTINCT FROM publish_at THEN
    UPDATE public.website_pages p SET status = 'scheduled', publish_at = schedule_page.publish_at AT TIME ZONE 'UTC',
      updated_at = now() AT TIME ZONE 'UTC' WHERE p.id = p_page;
  END IF;
  IF v_version IS NULL THEN
    DELETE FROM website_worker.page_requests r WHERE r.page_id = p_page;
  ELSE
    INSERT INTO website_worker.page_requests AS r (page_id, publish_at, version)
    VALUES (p_page, schedule_page.publish_at, v_version::int)
    ON CONFLICT ON CONSTRAINT page_requests_pkey DO UPDATE
      SET publish_at = excluded.publish_at, version = excluded.version, work_id = NULL;
  END IF;
END $$;
--> statement-breakpoint
-- Makes sure that a job is owed: a new work item, or the unfinished one with the same key.
-- p_rung promises that the caller rings, after its commit, the item it created, if that is due within a minute.
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
  v_due timestamptz := now();
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
  IF p_job = 'publish-page' AND v_job.subject_table = 'website_pages' THEN
    SELECT s.payload, s.publish_at INTO p_payload, v_due FROM website_worker.schedule_page(v_subject, p_payload) s;
  END IF;
  v_reason := website_worker.hold_reason(v_job.domain, coalesce(v_site, 0));

  -- Uses work_unfinished_key. The insert waits for whoever is inserting the same key; its row is then visible to the
  -- second statement, unless it finished in between, and the next round inserts. The row that is there is neither
  -- changed nor locked: its run must be able to end while this caller's transaction stays open.
  LOOP
    RETURN QUERY INSERT INTO website_worker.work AS w
      (job, key, site_id, payload, label, state, reason, trigger, next_at, rung_at, created_at)
    VALUES (p_job, v_key, v_site, p_payload, left(rtrim(p_job || ' ' || v_key), 120),
      CASE WHEN v_reason IS NULL THEN 'owed' ELSE 'held' END, v_reason, p_trigger, v_due,
      CASE WHEN p_rung AND v_reason IS NULL AND v_due <= now() + interval '1 minute' THEN now() END, now())
    ON CONFLICT (job, key) WHERE state IN ('owed', 'running', 'held') DO NOTHING
    RETURNING w.id, w.job, w.key, w.site_id, w.label, w.state, w.reason, w.generation, w.attempts, w.next_at, true;
    EXIT WHEN FOUND;
    SELECT w.id, w.job, w.key, w.site_id, w.label, w.state, w.reason, w.generation, w.attempts, w.next_at, false
      INTO id, job, key, site_id, label, state, reason, generation, attempts, next_at, created
      FROM website_worker.work w
      WHERE w.job = p_job AND w.key = v_key AND w.state IN ('owed', 'running', 'held');
    IF FOUND THEN
      -- Its run may begin, or even end, before this caller commits what it should see. A schedule has nothing to show, and
      -- a page says in its row what it should be.
      IF p_job = 'publish-page' THEN
        next_at := v_due;
        INSERT INTO website_worker.page_requests AS r (page_id, publish_at, work_id)
        VALUES (v_subject, v_due, enqueue_item.id)
        ON CONFLICT ON CONSTRAINT page_requests_pkey DO UPDATE
          SET publish_at = excluded.publish_at, work_id = excluded.work_id;
      ELSIF p_trigger <> 'schedule' THEN
        INSERT INTO website_worker.asked_again (work_id, asked_at) VALUES (enqueue_item.id, now());
      END IF;
      RETURN NEXT;
      EXIT;
    END IF;
  END LOOP;
END $$;
--> statement-breakpoint
-- Publishes what is due of some pages, each with its missing version, its audit row and its event, in one statement; says
-- what came of each page. Waits for nobody who has locked a page or a webhook: 'locked'. Each statement has a snapshot of
-- its own, so that what was committed with the lock on a page is seen. Uses the primary keys of website_pages,
-- website_sites and page_requests, and website_page_versions_page_id_version_key.
CREATE OR REPLACE FUNCTION website_worker.publish_pages(p_pages int[])
RETURNS TABLE (page_id int, outcome text, status text, late_ms float8, version int, wanted int, published_at timestamptz)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  v_ours int[];
  v_due int[];
  v_emitting int[];
  v_refused int[];
  v_at timestamptz;
  v_now timestamp;
BEGIN
  v_ours := ARRAY(
    SELECT p.id FROM public.website_pages p WHERE p.id = ANY (p_pages) ORDER BY p.id FOR NO KEY UPDATE SKIP LOCKED);
  v_at := clock_timestamp();
  v_now := v_at AT TIME ZONE 'UTC';
  v_due := ARRAY(
    SELECT p.id FROM public.website_pages p
    LEFT JOIN public.website_sites s ON s.id = p.site_id
    LEFT JOIN website_worker.page_requests r ON r.page_id = p.id AND r.publish_at = p.publish_at AT TIME ZONE 'UTC'
    WHERE p.id = ANY (v_ours) AND p.status = 'scheduled' AND p.deleted_at IS NULL AND p.publish_at <= v_now
      AND s.deleted_at IS NULL AND coalesce(s.status, 'active') = 'active'
      AND coalesce(r.version = coalesce(p.version, 1), true)
    ORDER BY p.id);

  IF cardinality(v_due) > 0 THEN
    v_emitting := ARRAY(
      SELECT p.id FROM public.website_pages p WHERE p.id = ANY (v_due) AND p.site_id IS NOT NULL ORDER BY p.id);
    v_refused := ARRAY(
      SELECT v_emitting[a.ord] FROM (
        SELECT array_agg(e.site_id ORDER BY e.id) AS sites, array_agg(e.body ORDER BY e.id) AS bodies,
          array_agg(encode(sha256(convert_to(e.body, 'UTF8')), 'hex') ORDER BY e.id) AS hashes
        FROM (
          SELECT p.id, p.site_id, '{"type":"content.published","timestamp":"' || t.at || '","siteId":' || p.site_id
            || ',"data":' || json_build_object('pageId', p.id, 'siteId', p.site_id, 'slug', p.slug, 'title', p.title,
              'version', coalesce(p.version, 1), 'publishedAt', t.at) || '}' AS body
          FROM public.website_pages p, (SELECT to_char(v_now, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at) t
          WHERE p.id = ANY (v_emitting)
        ) e
      ) b
      CROSS JOIN LATERAL website_worker.accept_events(b.sites, array_fill(null::text, ARRAY[cardinality(b.sites)]),
        array_fill('content.published'::text, ARRAY[cardinality(b.sites)]), b.bodies, b.hashes, false, false) a
      WHERE cardinality(b.sites) > 0 AND a.outcome <> 'accepted');
    v_due := ARRAY(SELECT d.id FROM unnest(v_due) AS d(id) WHERE d.id <> ALL (v_refused) ORDER BY d.id);

    INSERT INTO public.website_audit_logs
      (site_id, action, resource_type, resource_id, resource_name, changes, user_agent, created_at)
    SELECT p.site_id, 'page.published', 'page', p.id, p.title, jsonb_build_object(
      'status', jsonb_build_object('from', p.status, 'to', 'published'), 'version', coalesce(p.version, 1),
      'publishAt', website_worker.instant_text(p.publish_at AT TIME ZONE 'UTC')), 'website-worker', v_now
    FROM public.website_pages p WHERE p.id = ANY (v_due) ORDER BY p.id;
    -- A version that someone else is just inserting is waited for.
    INSERT INTO public.website_page_versions
      (page_id, version, title, blocks, seo_title, seo_description, author_id, comment, created_at)
    SELECT p.id, coalesce(p.version, 1), p.title, p.blocks, p.seo_title, p.seo_description, p.author_id,
      'Published on schedule', v_now
    FROM public.website_pages p
    WHERE p.id = ANY (v_due) AND (
      SELECT v.id FROM public.website_page_versions v
      WHERE v.page_id = p.id AND v.version = coalesce(p.version, 1) LIMIT 1) IS NULL
    ORDER BY p.id ON CONFLICT DO NOTHING;
    UPDATE public.website_pages p SET status = 'published', published_at = v_now, updated_at = v_now
    WHERE p.id = ANY (v_due);
    DELETE FROM website_worker.page_requests r WHERE r.page_id = ANY (v_due) AND r.work_id IS NULL;
  END IF;

  RETURN QUERY
    SELECT p.id, CASE
        WHEN p.id = ANY (v_due) THEN 'published'
        WHEN p.id <> ALL (v_ours) THEN 'locked'
        WHEN p.deleted_at IS NOT NULL THEN 'deleted'
        WHEN p.status IS DISTINCT FROM 'scheduled' OR p.publish_at IS NULL THEN 'unscheduled'
        WHEN p.publish_at > v_now THEN 'early'
        WHEN s.deleted_at IS NOT NULL THEN 'site deleted'
        WHEN s.status = 'maintenance' THEN 'site in maintenance'
        WHEN s.status <> 'active' THEN 'site inactive'
        WHEN r.version <> coalesce(p.version, 1) THEN 'mismatch'
        ELSE 'locked' END,
      p.status::text, (extract(epoch FROM v_now - p.publish_at) * 1000)::float8, coalesce(p.version, 1), r.version, v_at
    FROM public.website_pages p
    LEFT JOIN public.website_sites s ON s.id = p.site_id
    LEFT JOIN website_worker.page_requests r ON r.page_id = p.id AND r.publish_at = p.publish_at AT TIME ZONE 'UTC'
    WHERE p.id = ANY (p_pages);
END $$;
--> statement-breakpoint
REVOKE ALL ON FUNCTION website_worker.instant_of(timestamp, text), website_worker.instant_text(timestamptz),
  website_worker.read_publish_at(jsonb, int), website_worker.schedule_page(int, jsonb),
  website_worker.publish_pages(int[]) FROM PUBLIC;
