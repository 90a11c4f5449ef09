import type { z } from 'zod'

/** The switches of `website-worker enable` and of pausing a site. */
export const domains = ['webhooks', 'erp', 'publishing', 'leads', 'notifications', 'rollups', 'maintenance'] as const
export type Domain = (typeof domains)[number]

/** What a job is: everything about it that doesn't need the database or the network. */
export interface JobDefinition<Name extends string = string, Schema extends z.ZodObject = z.ZodObject> {
  /** Verb-noun; also the queue's name. */
  name: Name
  domain: Domain
  /** Payload: ids, not documents. A new field must be optional, since items in flight lack it. */
  schema: Schema
  /** Payload fields whose values, joined by `:`, tell two items apart. */
  key: readonly (keyof z.infer<Schema> & string)[]
  /** Optional payload fields that tell items apart, too, where they are there; lists count as a whole. Default: none. */
  optionalKey?: readonly (keyof z.infer<Schema> & string)[]
  /** Payload field that names a row of the shared schema; it must exist, and gives the item its site. Default: none. */
  subject?: { field: keyof z.infer<Schema> & string; table: string }
  /** Payload field that says when it is due; whoever asks is told the instant. Default: none, it is due at once. */
  dueAt?: keyof z.infer<Schema> & string
  /** How long before its time an item is rung, ms, so that its run is ready by then. Default: 0. */
  ringAheadMs?: number
  /** Who may ask for it over HTTP and SQL: `enqueue` or `ops` scope; `none` is the worker alone. Default: `enqueue`. */
  scope?: 'enqueue' | 'ops' | 'none'
  /** Waits before each attempt, ms; its length is the number of attempts. A processor may override the next wait. */
  retry: { waitsMs: readonly number[]; jitter?: number }
  /** Milliseconds a run may go unheard of; set where two runs at once could do harm. Default: no lease. */
  leaseMs?: number
  /** A run that is told to stop goes on later where it was: told as soon as its process shuts down. Default: false. */
  resumable?: boolean
  /** One process's share. */
  worker: { concurrency: number; limiter?: { max: number; durationMs: number } }
  /** Owed without anyone asking, once per installation. Default: never. */
  schedule?: { everySeconds: number }
}

/** Declares a job, keeping its payload's type. */
export function defineJob<const Name extends string, Schema extends z.ZodObject>(
  definition: JobDefinition<Name, Schema>,
): JobDefinition<Name, Schema> {
  return definition
}
