import { bigint, integer, jsonb, primaryKey, text } from 'drizzle-orm/pg-core'
import { instant, workerSchema } from './worker-schema.ts'

/** Conversions to monthly partitions that are under way or can still be taken back. */
export const partitioning = workerSchema.table('partitioning', {
  tableName: text('table_name').primaryKey(),
  /**
   * `copying` while the main app works on the plain table; `swapped` once it works on the partitions; `reverted` when it
   * works on the plain table again, and the partitions are yet to be dropped.
   */
  phase: text('phase', { enum: ['copying', 'swapped', 'reverted'] }).notNull(),
  /** Rows up to this id are in the partitions. */
  copiedThrough: integer('copied_through').notNull(),
  /** Rows up to this id were compared since. */
  verifiedThrough: integer('verified_through').notNull(),
  /** Foreign keys that the partitions have and their parent still lacks. */
  foreignKeys: jsonb('foreign_keys').$type<{ name: string; definition: string }[]>().notNull().default([]),
  startedAt: instant('started_at').notNull().defaultNow(),
  swappedAt: instant('swapped_at'),
})

/** Ids of rows that were written where the main app works and are not yet so in the other form; append-only. */
export const partitionChanges = workerSchema.table(
  'partition_changes',
  {
    tableName: text('table_name').notNull(),
    seq: bigint('seq', { mode: 'number' }).generatedAlwaysAsIdentity(),
    /** Null: the table was emptied. */
    id: integer('id'),
  },
  (t) => [primaryKey({ columns: [t.tableName, t.seq] })],
)
