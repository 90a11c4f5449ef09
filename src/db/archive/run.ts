import { sql } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { monthsOf } from '../partitions/months.ts'
import { dropEmptyPartition } from '../partitions/upkeep.ts'
import { archiveMonth, type ArchivedMonth, type ArchiveOptions } from './month.ts'
import { archivable, type ArchivableTable, readReferrers } from './rows.ts'

export interface ArchiveRunOptions extends ArchiveOptions {
  /** Whole months, in UTC, that stay in the database beside the current one. */
  afterMonths: number
}

/** Archives every month that is old enough, oldest first; returns what became of each that had rows. */
export async function archiveOld(db: Db, options: ArchiveRunOptions): Promise<ArchivedMonth[]> {
  const done: ArchivedMonth[] = []
  for (const table of archivable) {
    const referrers = await readReferrers(db, table)
    for (const month of await monthsToArchive(db, table, options.afterMonths)) {
      if (options.signal.aborted) return done
      if (referrers.length > 0) {
        const refused = `${referrers.join(', ')} refers to its rows: removing them might remove rows there`
        done.push({ table, month, file: '', rows: 0, refused })
        break
      }
      const archived = await archiveMonth(db, table, month, options)
      if (!archived) continue
      done.push(archived)
      if (table !== 'website_audit_logs' && !archived.refused) await dropEmptyPartition(db, table, month)
    }
  }
  return done
}

// Also months without rows whose last file is not done with.
async function monthsToArchive(db: Db, table: ArchivableTable, afterMonths: number): Promise<string[]> {
  const withRows = await monthsOf(db, `public.${table}`)
  // Primary key; a row a file.
  const { rows } = await db.execute<{ month: string; begun: string[] }>(sql`
    SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') - ${afterMonths}::int * interval '1 month', 'YYYY-MM-DD') AS month,
      ARRAY(SELECT to_char(month, 'YYYY-MM-DD') FROM website_worker.archives
            WHERE table_name = ${table} AND state <> 'dropped') AS begun`)
  const { month: kept, begun } = rows[0]!
  return [...new Set([...withRows.filter((month) => month < kept), ...begun])].toSorted()
}
