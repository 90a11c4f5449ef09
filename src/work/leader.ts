import { sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'

/** How long a dispatcher that fell silent keeps its place, ms. */
export const leaderLeaseMs = 4_000

/** Becomes or stays the one dispatcher; false while another process is. */
export async function lead(db: Db, holder: string): Promise<boolean> {
  // One row.
  const { rowCount } = await db.execute(
    sql`UPDATE website_worker.leader SET holder = ${holder}, until = now() + ${leaderLeaseMs} * interval '1 ms'
        WHERE id = 1 AND (holder = ${holder} OR until < now())`,
  )
  return rowCount === 1
}

/** Makes room for the next dispatcher at once. */
export async function stepDown(db: Db, holder: string): Promise<void> {
  // One row.
  await db.execute(sql`UPDATE website_worker.leader SET until = now() - interval '1 ms' WHERE holder = ${holder}`)
}

/** True while some process dispatches. */
export async function isLed(db: Db): Promise<boolean> {
  // One row.
  const { rows } = await db.execute(sql`SELECT until > now() AS led FROM website_worker.leader WHERE id = 1`)
  return rows[0]?.led === true
}
