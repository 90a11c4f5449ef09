import { sql } from 'drizzle-orm'
import { madeByUs, sharedTables, sharedTriggers, updatedAtFunction } from './additions.ts'
import type { Db } from './client.ts'
import { type DdlOptions, runDdl } from './ddl.ts'

/** Added to the comment of the main app's own function when we set its timezone. */
export const timezoneSetByUs = 'Timezone set by website-worker'

/** The trigger function `public.update_updated_at_column()` as it stands. */
export interface UpdatedAtFunctionState {
  comment: string | null
  inUtc: boolean
  /** Tables outside the spec whose triggers run it too. */
  otherTables: string[]
}

/** Reads the trigger function; undefined where there is none. */
export async function readUpdatedAtFunction(db: Db): Promise<UpdatedAtFunctionState | undefined> {
  const names = sharedTables.map((table) => table.name)
  const { rows } = await db.execute<UpdatedAtFunctionState & Record<string, unknown>>(sql`
    SELECT obj_description(p.oid, 'pg_proc') AS comment,
           EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE lower(c) IN ('timezone=utc', 'timezone=etc/utc')) AS "inUtc",
           ARRAY(
             SELECT DISTINCT c.oid::regclass::text FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
             WHERE g.tgfoid = p.oid
               AND NOT (c.relnamespace = 'public'::regnamespace AND c.relname IN ${names})
           ) AS "otherTables"
    FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ${updatedAtFunction} AND p.pronargs = 0
  `)
  return rows[0]
}

/** A trigger of ours as it stands; `enabled` as in pg_trigger.tgenabled. */
export interface TriggerState {
  name: string
  table: string
  enabled: boolean
  comment: string | null
}

/** Triggers on shared tables under the names of our list, by name. */
export async function readTriggers(db: Db): Promise<Map<string, TriggerState>> {
  const { rows } = await db.execute<TriggerState & Record<string, unknown>>(sql`
    SELECT g.tgname AS name, c.relname AS table, g.tgenabled IN ('O', 'A') AS enabled,
           obj_description(g.oid, 'pg_trigger') AS comment
    FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
    WHERE c.relnamespace = 'public'::regnamespace AND NOT g.tgisinternal
      AND g.tgname IN ${sharedTriggers.map((trigger) => trigger.name)}
  `)
  return new Map(rows.map((row) => [row.name, row]))
}

// SECURITY DEFINER with a pinned path: the main app's role needs no grant, and its search_path can't redirect names.
const createFunction = `
CREATE FUNCTION public.${updatedAtFunction}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
BEGIN
    NEW.updated_at = CURRENT_TIMESTAMP;
    RETURN NEW;
END;
$$`

/**
 * Makes the `updated_at` triggers that are missing; returns their names.
 * A function the main app made keeps its body and gets UTC, unless tables outside the spec rely on it.
 */
export async function ensureTriggers(db: Db, options: DdlOptions & { report?: (line: string) => void } = {}) {
  const fn = await readUpdatedAtFunction(db)
  if (!fn) {
    const mark = `COMMENT ON FUNCTION public.${updatedAtFunction}() IS '${madeByUs}'`
    await runDdl(db, updatedAtFunction, [createFunction, mark], options)
  } else if (!fn.inUtc && fn.otherTables.length === 0) {
    await setTimezone(db, fn, options)
  }
  const existing = await readTriggers(db)
  const missing = sharedTriggers.filter((trigger) => !existing.has(trigger.name))
  for (const { name, table, definition } of missing) {
    const comment = `COMMENT ON TRIGGER ${name} ON public.${table} IS '${madeByUs}'`
    await runDdl(db, `trigger ${name}`, [`CREATE TRIGGER ${name} ${definition}`, comment], options)
  }
  if (missing.length > 0) options.report?.(`made triggers: ${missing.map((trigger) => trigger.name).join(', ')}`)
  return missing.map((trigger) => trigger.name)
}

async function setTimezone(db: Db, fn: UpdatedAtFunctionState, options: DdlOptions): Promise<void> {
  const comment = fn.comment === null ? timezoneSetByUs : `${fn.comment}\n${timezoneSetByUs}`
  await runDdl(
    db,
    updatedAtFunction,
    [
      `ALTER FUNCTION public.${updatedAtFunction}() SET timezone = 'UTC'`,
      `COMMENT ON FUNCTION public.${updatedAtFunction}() IS ${quoteLiteral(comment)}`,
    ],
    options,
  )
}

/** A string as an SQL literal, for statements that take no parameters. */
export const quoteLiteral = (text: string) => ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
