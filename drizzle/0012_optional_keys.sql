-- As in 0008, with key fields that may be missing: those whose name ends in a question mark.
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
  v_is_optional boolean;
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
    v_is_optional := right(v_field, 1) = '?';
    v_field := rtrim(v_field, '?');
    v_value := p_payload -> v_field;
    IF v_is_optional THEN
      IF jsonb_typeof(v_value) <> 'null' THEN
        v_parts := v_parts || (v_field || '=' || CASE WHEN jsonb_typeof(v_value) IN ('number', 'string', 'boolean')
          THEN v_value #>> '{}' ELSE md5(v_value::text) END);
      END IF;
      CONTINUE;
    ELSIF v_value IS NULL OR jsonb_typeof(v_value) NOT IN ('number', 'string', 'boolean') THEN
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
