-- What analytics count of a site's pageviews and events.

-- The path of a page's URL: what stands after scheme and host, up to the query or the fragment; `/` where there is none. An
-- expression without a pinned path, so that it is inlined; only we call it.
CREATE FUNCTION website_worker.path_of(url text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(nullif(CASE
    WHEN url ~ '^([A-Za-z][A-Za-z0-9+.-]*:)?//' THEN substring(url FROM '^[^/]*//[^/?#]*([^?#]*)')
    ELSE split_part(split_part(url, '#', 1), '?', 1) END, ''), '/')
$$;
--> statement-breakpoint
-- The timezone a site is counted in: its own, or UTC where there is no such zone. 'UTC+3' would be taken for what POSIX
-- means by it, three hours west. Uses website_sites_pkey.
CREATE FUNCTION website_worker.zone_of(zone text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF zone !~ '^[A-Za-z_]+(/[A-Za-z0-9_+-]+)*$|^[A-Z]{3}[0-9][A-Z]{3}$' THEN RETURN 'UTC'; END IF;
  PERFORM now() AT TIME ZONE zone;
  RETURN zone;
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN 'UTC';
END $$;
--> statement-breakpoint
-- Notes the hours in which rows of a site were written, changed or removed, one row per site and hour and statement; it
-- waits for nobody, since it only appends. While rollups are off everywhere nothing is noted. An archiver that moves rows
-- away, and has sealed their hours before, sets website_worker.archiving to 'on' in its transaction. Rows without a site or
-- a time, or with one beyond all sense, are counted nowhere.
CREATE FUNCTION website_worker.note_analytics() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- A handful of rows.
  IF NOT EXISTS (SELECT FROM website_worker.domains d WHERE d.domain = 'rollups' AND d.enabled) THEN RETURN NULL; END IF;
  IF TG_OP = 'INSERT' THEN
    INSERT INTO website_worker.analytics_dirty (site_id, hour, kind, rows, at)
    SELECT r.site_id, date_trunc('hour', r.created_at) AT TIME ZONE 'UTC', TG_ARGV[0], count(*), now()
    FROM new_rows r
    WHERE r.site_id IS NOT NULL AND r.created_at >= timestamp '1970-01-02' AND r.created_at < timestamp '2999-01-01'
    GROUP BY 1, 2;
  ELSIF TG_OP = 'UPDATE' THEN
    INSERT INTO website_worker.analytics_dirty (site_id, hour, kind, at)
    SELECT DISTINCT r.site_id, date_trunc('hour', r.created_at) AT TIME ZONE 'UTC', TG_ARGV[0], now()
    FROM (SELECT o.site_id, o.created_at FROM old_rows o UNION ALL SELECT n.site_id, n.created_at FROM new_rows n) r
    WHERE r.site_id IS NOT NULL AND r.created_at >= timestamp '1970-01-02' AND r.created_at < timestamp '2999-01-01';
  ELSIF TG_OP = 'DELETE' THEN
    IF current_setting('website_worker.archiving', true) = 'on' THEN RETURN NULL; END IF;
    INSERT INTO website_worker.analytics_dirty (site_id, hour, kind, at)
    SELECT DISTINCT r.site_id, date_trunc('hour', r.created_at) AT TIME ZONE 'UTC', TG_ARGV[0], now()
    FROM old_rows r
    WHERE r.site_id IS NOT NULL AND r.created_at >= timestamp '1970-01-02' AND r.created_at < timestamp '2999-01-01';
  ELSE
    INSERT INTO website_worker.analytics_dirty (site_id, hour, kind, at)
    SELECT s.site_id, '-infinity', TG_ARGV[0], now() FROM website_worker.rollup_sites s;
  END IF;
  RETURN NULL;
END $$;
--> statement-breakpoint
REVOKE ALL ON FUNCTION website_worker.path_of(text), website_worker.zone_of(text), website_worker.note_analytics()
  FROM PUBLIC;
