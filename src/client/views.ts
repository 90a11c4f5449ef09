import type { z } from 'zod'
import type {
  acceptedEventSchema,
  deliveryStatuses,
  jobStates,
  originLimitsSchema,
  replayableStatuses,
  syncRunStatuses,
  syncTypes,
} from './schemas.ts'

/** What the API answers, as JSON: instants are ISO 8601 in UTC. */
type Instant = string

/** RFC 9457; `errors` names every field that is wrong, `field` the first. */
export interface Problem {
  type?: string | undefined
  title: string
  status: number
  detail?: string | undefined
  field?: string | undefined
  errors?: { field: string; message: string }[] | undefined
}

export type AcceptedEvent = z.output<typeof acceptedEventSchema>

/** What became of one event of several; `status` is what it alone would have been answered with. */
export type EventResult =
  | (AcceptedEvent & { status: 202; outcome: 'accepted' | 'replayed' })
  | { status: number; outcome: 'conflict' | 'invalid' | 'unavailable'; problem: Problem }

export type JobState = (typeof jobStates)[number]

export interface EnqueuedJob {
  /** For `publish-page`: the instant it was taken for. */
  publishAt?: string | undefined
  jobId: string
  state: JobState
  href: string
}

/** A work item; kept 7 days after its end. */
export interface Job {
  jobId: string
  job: string
  siteId: number | null
  label: string
  payload: Record<string, unknown>
  state: JobState
  /** Why it is held, failed or cancelled. */
  reason: string | null
  progress: unknown
  attempts: number
  nextAt: Instant | null
  failedReason: string | null
  result: unknown
  createdAt: Instant
  finishedAt: Instant | null
}

export type DeliveryStatus = (typeof deliveryStatuses)[number]

/** One event for one webhook. */
export interface Delivery {
  id: number
  webhookId: number | null
  siteId: number | null
  eventId: string | null
  event: string | null
  status: DeliveryStatus
  /** Why it is held or cancelled. */
  reason: string | null
  statusCode: number | null
  attempts: number
  nextAt: Instant | null
  error: string | null
  responseBody: string | null
  createdAt: Instant | null
  deliveredAt: Instant | null
  jobId: string | null
}

export interface DeliveryPage {
  items: Delivery[]
  nextCursor: string | null
}

/** One HTTP request of a delivery. */
export interface DeliveryAttempt {
  attempt: number
  at: Instant
  statusCode: number | null
  durationMs: number
  error: string | null
  trigger: string
}

export interface DeliveryDetail extends Delivery {
  attemptLog: DeliveryAttempt[]
}

/** A webhook and how it fares; never its secret. */
export interface Webhook {
  id: number
  siteId: number | null
  name: string
  event: string
  targetUrl: string
  active: boolean
  /** `disabled`: by the worker. `off`: by its owner. */
  health: 'healthy' | 'failing' | 'disabled' | 'off'
  disabledReason: string | null
  disabledAt: Instant | null
  failingSince: Instant | null
  lastSuccessAt: Instant | null
  lastFailureAt: Instant | null
}

export type ReplayableStatus = (typeof replayableStatuses)[number]

/** The `result` of a finished replay. */
export interface ReplayResult {
  /** Deliveries there were to send again when it began. */
  total: number
  /** How many of them it owed again; the others were sent or ended by someone else meanwhile. */
  replayed: number
  /** Deliveries whose event's body is no longer kept. */
  skipped: number
}

/** The `result` of a ping. */
export interface PingResult {
  /** Whether the receiver answered with a 2xx. */
  ok: boolean
  statusCode: number | null
  durationMs: number
  error: string | null
  keyEncoding: 'base64 (whsec_)' | 'utf-8'
  /** How many secrets signed. */
  signatures: number
}

export interface CancelledDeliveries {
  cancelled: number
  /** True: there are more, ask again. */
  more: boolean
}

/** What to limit at an origin; null or left out: unlimited. */
export type OriginLimits = z.input<typeof originLimitsSchema>

/** What webhooks are sent to: scheme, host and port. */
export interface Origin {
  origin: string
  /** Null: what is set for `*` holds, if anything is. */
  limits: { maxConcurrent: number | null; requestsPerSecond: number | null } | null
  /** `open`: nothing is sent until `openUntil`. `probing`: one request at a time, until one is answered. */
  breaker: 'closed' | 'open' | 'probing'
  openUntil: Instant | null
  /** Deliveries that may be in the queue at a time; null while none has to wait. */
  window: number | null
  /** Deliveries that wait for their turn, counted up to 100,000. */
  parked: number
  inQueue: number
}

export interface OriginPage {
  items: Origin[]
  nextCursor: string | null
}

/** A stream of an ERP. */
export type SyncType = (typeof syncTypes)[number]

/** `failed`: nothing, or not all of it, was written. `abandoned`: broken off, and begun anew. */
export type SyncRunStatus = (typeof syncRunStatuses)[number]

/** A run over one stream of the ERP of a site; kept 30 days. */
export interface SyncRun {
  id: number
  type: SyncType
  mode: 'full' | 'incremental' | 'targeted'
  status: SyncRunStatus
  /** How far it came. */
  phase: 'fetching' | 'applying'
  /** It compared, and wrote nothing. */
  audit: boolean
  /** The brake did not hold it. */
  force: boolean
  /** Records that the ERP sent, bad ones among them. */
  fetched: number
  rejected: number
  /** What it did, by word; `drift` compares shop and ERP after it. */
  counts: Record<string, unknown>
  /** Why it failed; of one that is running, why it had to wait. */
  error: string | null
  jobId: string
  startedAt: Instant
  finishedAt: Instant | null
}

export interface SyncRunPage {
  items: SyncRun[]
  nextCursor: string | null
}

/** A record of the ERP that can not be taken, until it is sent right. */
export interface Quarantined {
  id: number
  /** The stream it came in. */
  type: SyncType
  entity: 'product' | 'variant'
  erpId: string | null
  sku: string | null
  /** What is wrong, naming the field. */
  reason: string
  /** What came, shortened and without secrets. */
  snapshot: unknown
  firstSeenAt: Instant
  lastSeenAt: Instant
}

export interface QuarantinePage {
  items: Quarantined[]
  nextCursor: string | null
}
