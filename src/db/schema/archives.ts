import { bigint, date, integer, primaryKey, text } from 'drizzle-orm/pg-core'
import { instant, workerSchema } from './worker-schema.ts'

/** Files that rows of a month, in UTC, were archived to. A later part holds what came when the earlier one was done. */
export const archives = workerSchema.table(
  'archives',
  {
    tableName: text('table_name').notNull(),
    /** The month's first day. */
    month: date('month', { mode: 'string' }).notNull(),
    part: integer('part').notNull(),
    /** `dropping` from the first row that is removed on. */
    state: text('state', { enum: ['writing', 'written', 'dropping', 'dropped'] }).notNull(),
    /** Below `ARCHIVE_DIR`. */
    file: text('file').notNull(),
    rows: bigint('rows', { mode: 'number' }),
    /** Of the file's bytes. */
    sha256: text('sha256'),
    /** Why its rows can't be dropped. */
    error: text('error'),
    startedAt: instant('started_at').notNull().defaultNow(),
    droppedAt: instant('dropped_at'),
  },
  (t) => [primaryKey({ columns: [t.tableName, t.month, t.part] })],
)
