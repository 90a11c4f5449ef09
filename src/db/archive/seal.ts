import { sql } from 'drizzle-orm'
import { AppError } from '../../errors.ts'
import type { Tx } from '../client.ts'
import { nextMonth } from '../partitions/months.ts'

/**
 * Tells the rollups that raw rows of a month, and of those before it, may be gone from here on: what was counted stays.
 * @throws AppError `unavailable` while something before is yet to be rolled up
 */
export async function sealMonth(tx: Tx, month: string): Promise<void> {
  const end = sql`(${nextMonth(month)}::timestamp AT TIME ZONE 'UTC')`
  // Primary keys; one row a site. Whoever rolls a site up holds its row: this waits, and what comes after sees the seal.
  await tx.execute(sql`
    INSERT INTO website_worker.rollup_sites AS s (site_id, sealed_before)
    SELECT id, ${end} FROM public.website_sites ORDER BY id
    ON CONFLICT (site_id) DO UPDATE SET sealed_before = greatest(s.sealed_before, excluded.sealed_before)`)
  // analytics_dirty_pkey, a probe a site. The site's day that the month ends in is sealed whole.
  const { rows } = await tx.execute<{ id: number }>(sql`
    SELECT w.id FROM public.website_sites w
    WHERE website_worker.hold_reason('rollups', w.id) IS DISTINCT FROM 'domain off'
      AND EXISTS (SELECT FROM website_worker.analytics_dirty a
                  WHERE a.site_id = w.id AND a.hour < ${end} + interval '26 hours')
    ORDER BY w.id LIMIT 1`)
  if (rows.length > 0) {
    const site = rows[0]!.id
    const message = `analytics of site ${site} are yet to be rolled up; it waits for that, or for: website-worker disable rollups --site ${site}`
    throw new AppError('unavailable', message)
  }
}
