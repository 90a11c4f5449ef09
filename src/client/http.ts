import { noAnswer, parseJson, problemOf, WorkerApiError } from './problem.ts'
import type { NewEvent } from './schemas.ts'
import type {
  AcceptedEvent,
  CancelledDeliveries,
  Delivery,
  DeliveryDetail,
  DeliveryStatus,
  EnqueuedJob,
  EventResult,
  Job,
  Origin,
  OriginLimits,
  Quarantined,
  ReplayableStatus,
  SyncRun,
  SyncRunStatus,
  SyncType,
  Webhook,
} from './views.ts'

export interface ClientOptions {
  /** Where the API listens, e.g. `http://website-worker:3000`; may end in a path. */
  url: string
  /** The secret of one of its `API_KEYS`. */
  apiKey: string
  /** How long a call may take, its answer's body included. Default: 10000. */
  timeoutMs?: number
}

/** An event to send; `occurredAt` may be a Date. Give it an `id` and sending it twice has one effect. */
export type SentEvent = Omit<NewEvent, 'occurredAt'> & { occurredAt?: Date | string | undefined }

export interface DeliveriesFilter {
  status?: DeliveryStatus
}

export interface SyncRunsFilter {
  type?: SyncType
  status?: SyncRunStatus
}

/** Which deliveries of a webhook to send again; both ends belong to it. */
export interface ReplayRequest {
  since: Date | string
  /** Default: the moment of the request. */
  until?: Date | string
  /** Where they stand now. Default: `failed`. */
  status?: ReplayableStatus
}

/** The HTTP API, call by call. Every call throws `WorkerApiError` when it fails. */
export interface Client {
  /** Resolves once the event is committed; its deliveries follow. */
  emitEvent(event: SentEvent): Promise<AcceptedEvent>
  /** Any number of events, in as many requests as it takes; one answer per event, in order. */
  emitEvents(events: readonly SentEvent[]): Promise<EventResult[]>
  enqueue(job: string, payload: object, options?: { idempotencyKey?: string }): Promise<EnqueuedJob>
  /** `jobId` is what `enqueue` answered, over HTTP or in a transaction. */
  getJob(job: string, jobId: number | string): Promise<Job>
  retryJob(job: string, jobId: number | string): Promise<Job>
  cancelJob(job: string, jobId: number | string): Promise<Job>
  getWebhook(webhookId: number): Promise<Webhook>
  /** Sends deliveries of a span of time again; follow it with `getJob('replay-webhook', jobId)`, its result is a `ReplayResult`. */
  replayWebhook(webhookId: number, request: ReplayRequest): Promise<EnqueuedJob>
  /** Sends a test message; what came of it is the `PingResult` of `getJob('ping-webhook', jobId)`. */
  pingWebhook(webhookId: number): Promise<EnqueuedJob>
  /** Cancels every delivery that is pending or held, and replays under way. Ask again while there is `more`. */
  cancelPendingDeliveries(webhookId: number): Promise<CancelledDeliveries>
  /** Every delivery of a webhook or a site; further pages are fetched as they are needed. */
  listDeliveries(of: ({ webhookId: number } | { siteId: number }) & DeliveriesFilter): AsyncGenerator<Delivery, void>
  getDelivery(deliveryId: number): Promise<DeliveryDetail>
  retryDelivery(deliveryId: number): Promise<DeliveryDetail>
  cancelDelivery(deliveryId: number): Promise<DeliveryDetail>
  /** Every run over the streams of a site's ERP, newest first; further pages are fetched as they are needed. */
  listSyncRuns(of: { siteId: number } & SyncRunsFilter): AsyncGenerator<SyncRun, void>
  /** Every record of a site's ERP that can't be taken as it is, newest first. */
  listQuarantine(siteId: number): AsyncGenerator<Quarantined, void>
  /** Every origin that has limits, or that deliveries wait for. */
  listOrigins(): AsyncGenerator<Origin, void>
  /** `origin` is e.g. `https://shop.example`, or `*` for every one without limits of its own. */
  getOrigin(origin: string): Promise<Origin>
  /** In place of the limits it had. */
  setOriginLimits(origin: string, limits: OriginLimits): Promise<Origin>
  /** Takes its own limits away. */
  resetOrigin(origin: string): Promise<Origin>
}

const maxBatchEvents = 1000
/** Below the API's limit for a batch, 8 MiB, with room for the envelope. */
const maxBatchBytes = 8_000_000

/** A client of the HTTP API. */
export function createClient(options: ClientOptions): Client {
  const base = options.url.replace(/\/+$/, '')
  const timeoutMs = options.timeoutMs ?? 10_000

  async function call<T>(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    body?: string,
    headers?: Record<string, string>,
  ) {
    let status: number
    let text: string
    try {
      const response = await fetch(base + path, {
        method,
        headers: {
          accept: 'application/json',
          authorization: `Bearer ${options.apiKey}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        // A redirect would carry the key elsewhere.
        redirect: 'error',
        signal: AbortSignal.timeout(timeoutMs),
        ...(body === undefined ? {} : { body }),
      })
      status = response.status
      text = await response.text()
    } catch (cause) {
      throw new WorkerApiError(noAnswer(`${method} ${path}`, timeoutMs, cause), { cause })
    }
    const answer = parseJson(text)
    if (status >= 200 && status < 300 && answer !== undefined) return answer as T
    throw new WorkerApiError(problemOf(status, answer, `${method} ${path}`))
  }

  const get = <T>(path: string) => call<T>('GET', path)
  const post = <T>(path: string) => call<T>('POST', path)
  /** Every item of every page. */
  async function* list<Item>(
    path: string,
    filter: Record<string, string | undefined> = {},
  ): AsyncGenerator<Item, void> {
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries(filter)) if (value !== undefined) query.set(name, value)
    for (;;) {
      const page = await get<{ items: Item[]; nextCursor: string | null }>(query.size > 0 ? `${path}?${query}` : path)
      yield* page.items
      if (page.nextCursor === null) return
      query.set('cursor', page.nextCursor)
    }
  }
  const originPath = (origin: string) => `/v1/origins/${encodeURIComponent(origin)}`
  const jobPath = (job: string, jobId: number | string) => `/v1/jobs/${encodeURIComponent(job)}/${jobId}`

  return {
    emitEvent: (event) => call('POST', '/v1/events', JSON.stringify(event)),
    async emitEvents(events) {
      const results: EventResult[] = []
      for (const batch of batches(events)) {
        const answer = await call<{ results: EventResult[] }>('POST', '/v1/events/batch', batch)
        results.push(...answer.results)
      }
      return results
    },
    enqueue: (job, payload, { idempotencyKey } = {}) =>
      call(
        'POST',
        `/v1/jobs/${encodeURIComponent(job)}`,
        JSON.stringify(payload),
        idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey },
      ),
    getJob: (job, jobId) => get(jobPath(job, jobId)),
    retryJob: (job, jobId) => post(`${jobPath(job, jobId)}/retry`),
    cancelJob: (job, jobId) => post(`${jobPath(job, jobId)}/cancel`),
    getWebhook: (webhookId) => get(`/v1/webhooks/${webhookId}`),
    replayWebhook: (webhookId, request) => call('POST', `/v1/webhooks/${webhookId}/replay`, JSON.stringify(request)),
    pingWebhook: (webhookId) => post(`/v1/webhooks/${webhookId}/ping`),
    cancelPendingDeliveries: (webhookId) => post(`/v1/webhooks/${webhookId}/cancel-pending`),
    listDeliveries(of) {
      const path = 'webhookId' in of ? `/v1/webhooks/${of.webhookId}/deliveries` : `/v1/sites/${of.siteId}/deliveries`
      return list<Delivery>(path, { status: of.status })
    },
    getDelivery: (deliveryId) => get(`/v1/deliveries/${deliveryId}`),
    retryDelivery: (deliveryId) => post(`/v1/deliveries/${deliveryId}/retry`),
    cancelDelivery: (deliveryId) => post(`/v1/deliveries/${deliveryId}/cancel`),
    listSyncRuns: ({ siteId, type, status }) => list<SyncRun>(`/v1/sites/${siteId}/sync-runs`, { type, status }),
    listQuarantine: (siteId) => list<Quarantined>(`/v1/sites/${siteId}/quarantine`),
    listOrigins: () => list<Origin>('/v1/origins'),
    getOrigin: (origin) => get(originPath(origin)),
    setOriginLimits: (origin, limits) => call('PUT', originPath(origin), JSON.stringify(limits)),
    resetOrigin: (origin) => call('DELETE', originPath(origin)),
  }
}

/** Request bodies that the API takes, each with as many events as fit. */
function* batches(events: readonly SentEvent[]): Generator<string> {
  let batch: string[] = []
  let bytes = 0
  for (const event of events) {
    const text = JSON.stringify(event)
    const length = Buffer.byteLength(text) + 1
    if (batch.length === maxBatchEvents || (batch.length > 0 && bytes + length > maxBatchBytes)) {
      yield `{"events":[${batch.join(',')}]}`
      batch = []
      bytes = 0
    }
    batch.push(text)
    bytes += length
  }
  if (batch.length > 0) yield `{"events":[${batch.join(',')}]}`
}
