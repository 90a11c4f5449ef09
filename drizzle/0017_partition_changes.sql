-- Notes which rows of a table that is being converted were written: ids alone, so that it neither fails on what a row
-- holds nor waits for anyone. The table is named by the argument, since a partition has a name of its own.
CREATE FUNCTION website_worker.note_partition_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO website_worker.partition_changes (table_name, id) VALUES (TG_ARGV[0], NULL);
  ELSIF TG_OP = 'UPDATE' AND OLD.id <> NEW.id THEN
    INSERT INTO website_worker.partition_changes (table_name, id) VALUES (TG_ARGV[0], OLD.id), (TG_ARGV[0], NEW.id);
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO website_worker.partition_changes (table_name, id) VALUES (TG_ARGV[0], OLD.id);
  ELSE
    INSERT INTO website_worker.partition_changes (table_name, id) VALUES (TG_ARGV[0], NEW.id);
  END IF;
  RETURN NULL;
END;
$$;
