import { pgSchema, timestamp } from 'drizzle-orm/pg-core'

/** Everything only the worker reads; the shared `website_*` tables live in `public`. */
export const workerSchema = pgSchema('website_worker')

/** A moment, whatever the zone. */
export const instant = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })
