/** The tables that can be partitioned, by the name a person calls them. */
export const partitionable = { pageviews: 'website_pageviews', events: 'website_events' } as const

export type PartitionedTable = (typeof partitionable)[keyof typeof partitionable]

/** Their names in the database. */
export const partitionedTables: readonly PartitionedTable[] = Object.values(partitionable)

/** Where partitions lie: out of sight of tools that compare `public` with the main app's own schema, and not ours to drop. */
export const partitionSchema = 'website_partitions'

/** What the main app works on. */
export const publicTable = (table: PartitionedTable) => `public.${table}`

/** The partitioned form while it is made, or after it was taken back. */
export const twinOf = (table: PartitionedTable) => `${partitionSchema}.${table}`

/** The plain form, kept until the conversion is finished. */
export const keptOf = (table: PartitionedTable) => `website_worker.${table}`

/** The partition that takes rows of months without one. */
export const defaultOf = (table: PartitionedTable) => `${partitionSchema}.${table}_default`

/** The partition of a month, given by its first day. */
export const partitionOf = (table: PartitionedTable, month: string) =>
  `${partitionSchema}.${table}_${month.slice(0, 7).replace('-', '_')}`

/** Our trigger that notes what is written during a conversion. */
export const changeTrigger = 'website_worker_partition_changes'
