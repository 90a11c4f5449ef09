import type { FastifyPluginAsync } from 'fastify'
import type { Logger } from 'pino'
import type { Db } from '../db/client.ts'
import type { JobDefinition } from '../queues/define-job.ts'
import type { Bell } from '../work/bell.ts'

/** `enqueue` asks for work; `ops` retries, cancels, pauses and runs the jobs reserved for it; both may read. */
export type Scope = 'enqueue' | 'ops'

/** One entry of `API_KEYS`. */
export interface ApiKey {
  name: string
  secret: string
  scopes: readonly Scope[]
}

/** What the API works with; whoever opened these closes them. */
export interface AppDeps {
  db: Db
  bell: Bell
  /** Hears that something came to wait in a lane, and that it may be its turn. */
  pullLane(lane: string): void
  /** The catalog. */
  jobs: readonly JobDefinition[]
  /** None: every call under `/v1` is refused. */
  apiKeys: readonly ApiKey[]
  /** What ERPs sign with; several are separated by spaces. Default: none, and they are refused. */
  erpSecret?: string | undefined
  metrics: { contentType: string; render(): Promise<string> }
  /** True while the queue can be expected to answer. */
  queueReady(): boolean
  /** True from the signal on: `/readyz` says so. */
  shuttingDown(): boolean
  /** Bull Board, registered at `/admin/queues`. Default: none. */
  board?: FastifyPluginAsync | undefined
  log: Logger
  version: string
}
