import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { pgErrorOf } from './pg-error.ts'

/**
 * Lets the planner know of tables that were written in bulk since it last looked, which autovacuum may get to late, and of
 * partitioned ones, which it never gets to. Returns their names; a table that is locked, or not ours to look at, is left.
 */
export async function analyzeChanged(db: Db, signal: AbortSignal): Promise<string[]> {
  const { rows } = await db.execute<{ name: string }>(sql`
    SELECT format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
    WHERE ((n.nspname = 'public' AND c.relname ~ '^website_') OR n.nspname = 'website_worker')
      AND pg_has_role(c.relowner, 'USAGE')
      AND CASE c.relkind
        WHEN 'r' THEN s.n_mod_since_analyze > 10000 + 0.1 * greatest(c.reltuples, 0)
        WHEN 'p' THEN coalesce(s.last_analyze, '-infinity') < now() - interval '1 day'
      END
    ORDER BY name`)
  const done: string[] = []
  for (const { name } of rows) {
    if (signal.aborted) break
    try {
      // Waits for no one: whoever holds the table may be at work on it for long.
      await db.execute(sql.raw(`ANALYZE (SKIP_LOCKED) ${name}`))
      done.push(name)
    } catch (error) {
      // It was dropped meanwhile, or is so large that it takes longer than a statement may.
      if (!['42P01', '57014'].includes(pgErrorOf(error)?.code ?? '')) throw error
    }
  }
  return done
}
