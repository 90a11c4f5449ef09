import { z } from 'zod'
import {
  acceptedEventSchema,
  deliveryStatuses,
  jobStates,
  newEventSchema,
  originLimitsSchema,
  replayRequestSchema,
  syncRunStatuses,
  syncTypes,
} from '../client/schemas.ts'
import { domains } from '../queues/define-job.ts'

const largestId = 2_147_483_647

const idInPath = (largest: number, description: string) =>
  z
    .string()
    .regex(/^[1-9]\d{0,15}$/)
    .transform(Number)
    .refine((id) => id <= largest)
    .meta({ type: 'integer', minimum: 1, maximum: largest, description })

const instant = z.date().meta({ examples: ['2026-03-01T09:30:00.000Z'] })
const rowId = z.int32().positive()

/** `{id}` of a path, in words for the reference page. */
export const idParams = (what: string) => z.strictObject({ id: idInPath(largestId, `Id of the ${what}.`) })
/** `{job}` of a path. */
export const jobParams = z.strictObject({
  job: z
    .string()
    .regex(/^[a-z][a-z\d-]{0,99}$/)
    .describe('Name of the job.'),
})
/** `{job}` and `{jobId}` of a path. */
export const jobIdParams = jobParams.extend({ jobId: idInPath(Number.MAX_SAFE_INTEGER, 'Id from the 202 answer.') })

/** What `POST /v1/events` takes, with what the reference page says of it. */
export const newEventBody = newEventSchema.meta({
  id: 'NewEvent',
  description: 'Something that happened at a site. `data` is any JSON value and reaches the receivers unchanged.',
  examples: [{ siteId: 1, event: 'order.created', data: { orderId: 4711, total: '49.90' }, id: 'order-4711-created' }],
})

/** RFC 9457; `errors` names every field that is wrong, `field` the first. */
export const problemBody = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    field: z.string().optional(),
    errors: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
  })
  .meta({
    id: 'Problem',
    description: 'What went wrong (RFC 9457). `errors` names every field that is wrong, `field` the first of them.',
    examples: [
      {
        type: 'urn:website-worker:problem:unprocessable-entity',
        title: 'Unprocessable Entity',
        status: 422,
        detail: 'siteId: There is no such site',
        field: 'siteId',
        errors: [{ field: 'siteId', message: 'There is no such site' }],
      },
    ],
  })

export const acceptedEventBody = acceptedEventSchema.meta({
  id: 'AcceptedEvent',
  description: 'The event is committed; each delivery goes to one webhook.',
  examples: [{ eventId: 'order-4711-created', deliveries: [{ id: 9001, webhookId: 3, status: 'pending' }] }],
})

/** One answer of a batch, in the order asked. */
export const batchResultBody = z
  .object({
    results: z.array(
      z.union([
        acceptedEventSchema.extend({ status: z.literal(202), outcome: z.enum(['accepted', 'replayed']) }),
        z.object({ status: z.int(), outcome: z.enum(['conflict', 'invalid', 'unavailable']), problem: problemBody }),
      ]),
    ),
  })
  .meta({ id: 'BatchResult' })

export const enqueuedJobBody = z
  .object({
    jobId: z.string(),
    state: z.enum(jobStates),
    href: z.string(),
    publishAt: z.iso.datetime().optional().describe('For `publish-page`: the instant it was taken for.'),
  })
  .meta({ id: 'EnqueuedJob', examples: [{ jobId: '812', state: 'waiting', href: '/v1/jobs/publish-page/812' }] })

export const jobBody = z
  .object({
    jobId: z.string(),
    job: z.string(),
    siteId: rowId.nullable(),
    label: z.string().describe('What a person calls it.'),
    payload: z.record(z.string(), z.unknown()),
    state: z.enum(jobStates),
    reason: z.string().nullable().describe('Why it is held, failed or cancelled.'),
    progress: z.unknown(),
    attempts: z.int().describe('Runs that ended, since the last retry by hand.'),
    nextAt: instant.nullable().describe('When it runs next; null once it ended, while it runs and while it is held.'),
    failedReason: z.string().nullable().describe('What the last run failed with.'),
    result: z.unknown(),
    createdAt: instant,
    finishedAt: instant.nullable(),
  })
  .meta({ id: 'Job', description: 'A work item; kept 7 days after its end.' })

export const deliveryBody = z
  .object({
    id: rowId,
    webhookId: rowId.nullable(),
    siteId: rowId.nullable(),
    eventId: z.string().nullable(),
    event: z.string().nullable(),
    status: z.enum(deliveryStatuses),
    reason: z.string().nullable().describe('Why it is held or cancelled.'),
    statusCode: z.int().nullable().describe('What the receiver answered last.'),
    attempts: z.int(),
    nextAt: instant.nullable().describe('When it is sent next.'),
    error: z.string().nullable(),
    responseBody: z.string().nullable().describe('The first 16 KiB of what the receiver answered last.'),
    createdAt: instant.nullable(),
    deliveredAt: instant.nullable(),
    jobId: z.string().nullable().describe('Its work item, for `/v1/jobs/deliver-webhook/{jobId}`.'),
  })
  .meta({ id: 'Delivery', description: 'One event for one webhook: a row of the delivery ledger.' })

export const deliveryDetailBody = deliveryBody
  .extend({
    attemptLog: z.array(
      z.object({
        attempt: z.int(),
        at: instant,
        statusCode: z.int().nullable(),
        durationMs: z.int(),
        error: z.string().nullable(),
        trigger: z.string().describe('Who asked: event, schedule, retry, replay…'),
      }),
    ),
  })
  .meta({ id: 'DeliveryDetail', description: 'A delivery with every request that was made for it, oldest first.' })

export const deliveryPageBody = z
  .object({ items: z.array(deliveryBody), nextCursor: z.string().nullable() })
  .meta({ id: 'DeliveryPage' })

export const deliveryQuery = z.strictObject({
  status: z.enum(deliveryStatuses).optional().describe('Only deliveries in this state.'),
  cursor: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,32}$/, 'Not a cursor: pass `nextCursor` of the page before')
    .optional()
    .describe('`nextCursor` of the page before.'),
  limit: z
    .string()
    .regex(/^([1-9]\d?|1\d\d|200)$/, 'A number from 1 to 200')
    .transform(Number)
    .optional()
    .meta({ type: 'integer', minimum: 1, maximum: 200, default: 50, description: 'How many at most.' }),
})

export const webhookBody = z
  .object({
    id: rowId,
    siteId: rowId.nullable(),
    name: z.string(),
    event: z.string(),
    targetUrl: z.string().describe('Without user, password, query and fragment, which may hold secrets.'),
    active: z.boolean().describe('The switch in the webhook row.'),
    health: z
      .enum(['healthy', 'failing', 'disabled', 'off'])
      .describe('`disabled`: by the worker, after days of failures or a 410. `off`: by its owner.'),
    disabledReason: z.string().nullable(),
    disabledAt: instant.nullable(),
    failingSince: instant.nullable(),
    lastSuccessAt: instant.nullable(),
    lastFailureAt: instant.nullable(),
  })
  .meta({ id: 'Webhook' })

export const replayBody = replayRequestSchema.meta({
  id: 'Replay',
  description:
    'Deliveries made between two instants (ISO 8601 with an offset), both included. `until`: the moment of the request, if left out. `status`: where a delivery must stand when the replay comes to it; `failed`, if left out.',
  examples: [{ since: '2026-03-01T00:00:00Z', until: '2026-03-02T00:00:00Z', status: 'failed' }],
})

export const cancelledBody = z
  .object({
    cancelled: z.int().describe('Deliveries that were pending or held.'),
    more: z.boolean().describe('True: the time was not enough for all of them; ask again.'),
  })
  .meta({ id: 'CancelledDeliveries', examples: [{ cancelled: 512, more: false }] })

/** `{origin}` of a path. */
export const originParams = z.strictObject({
  origin: z
    .string()
    .describe(
      'An origin, percent-encoded, e.g. `https%3A%2F%2Fshop.example`; `*` is every origin without limits of its own.',
    ),
})

export const originLimitsBody = originLimitsSchema.meta({
  id: 'OriginLimits',
  description:
    'What is left out, or null, is not limited; at least one is given. Both null exempt an origin from what is set for `*`.',
  examples: [{ maxConcurrent: 4, requestsPerSecond: 10 }],
})

export const originBody = z
  .object({
    origin: z.string(),
    limits: z
      .object({ maxConcurrent: z.int().nullable(), requestsPerSecond: z.number().nullable() })
      .nullable()
      .describe('Null: what is set for `*` holds, if anything is.'),
    breaker: z
      .enum(['closed', 'open', 'probing'])
      .describe('`open`: nothing is sent until `openUntil`. `probing`: one request at a time, until one is answered.'),
    openUntil: instant.nullable(),
    window: z.int().nullable().describe('Deliveries that may be in the queue at a time; null while none has to wait.'),
    parked: z.int().describe('Deliveries that wait for their turn, counted up to 100,000.'),
    inQueue: z.int(),
  })
  .meta({ id: 'Origin', description: 'What webhooks are sent to: scheme, host and port.' })

export const originPageBody = z
  .object({ items: z.array(originBody), nextCursor: z.string().nullable() })
  .meta({ id: 'OriginPage' })

export const originQuery = deliveryQuery
  .pick({ limit: true })
  .extend({ cursor: z.string().max(2_000).optional().describe('`nextCursor` of the page before.') })

const namedThings = (most: number) => z.array(z.string().min(1).max(most)).max(1_000)

/** What `POST /v1/erp/changes` takes. */
export const erpPushBody = z
  .strictObject({
    siteId: rowId.optional(),
    siteKey: z
      .string()
      .min(1)
      .max(255)
      .optional()
      .describe('`settings.erp.siteKey` of the site, in place of `siteId`.'),
    type: z.enum(syncTypes),
    skus: namedThings(100).optional(),
    ids: namedThings(255).optional().describe("The ERP's ids of products."),
  })
  .refine(({ siteId, siteKey }) => (siteId === undefined) !== (siteKey === undefined), {
    path: ['siteId'],
    message: 'Give `siteId` or `siteKey`',
  })
  .meta({ id: 'ErpPush', examples: [{ siteKey: 'shop-1', type: 'inventory', skus: ['TEA-250'] }] })

export const syncRunBody = z
  .object({
    id: z.int(),
    type: z.enum(syncTypes),
    mode: z.enum(['full', 'incremental', 'targeted']),
    status: z
      .enum(syncRunStatuses)
      .describe('`failed`: nothing, or not all of it, was written. `abandoned`: broken off, and begun anew.'),
    phase: z.enum(['fetching', 'applying']).describe('How far it came.'),
    audit: z.boolean().describe('It compared, and wrote nothing.'),
    force: z.boolean().describe('The brake did not hold it.'),
    fetched: z.int().describe('Records that the ERP sent, bad ones among them.'),
    rejected: z.int().describe('Records that could not be taken as they are.'),
    counts: z.record(z.string(), z.unknown()).describe('What it did, by word; `drift` compares shop and ERP after it.'),
    error: z.string().nullable().describe('Why it failed; of one that is running, why it had to wait.'),
    jobId: z.string().describe('Its work item, for `/v1/jobs/sync-…/{jobId}`.'),
    startedAt: instant,
    finishedAt: instant.nullable(),
  })
  .meta({ id: 'SyncRun', description: 'A run over one stream of the ERP of a site; kept 30 days.' })

export const syncRunPageBody = z
  .object({ items: z.array(syncRunBody), nextCursor: z.string().nullable() })
  .meta({ id: 'SyncRunPage' })

export const syncRunQuery = deliveryQuery.omit({ status: true }).extend({
  type: z.enum(syncTypes).optional().describe('Only runs over this stream.'),
  status: z.enum(syncRunStatuses).optional().describe('Only runs in this state.'),
})

export const quarantinedBody = z
  .object({
    id: z.int(),
    type: z.enum(syncTypes).describe('The stream it came in.'),
    entity: z.enum(['product', 'variant']),
    erpId: z.string().nullable(),
    sku: z.string().nullable(),
    reason: z.string().describe('What is wrong, naming the field.'),
    snapshot: z.unknown().describe('What came, shortened and without secrets.'),
    firstSeenAt: instant,
    lastSeenAt: instant,
  })
  .meta({ id: 'Quarantined', description: 'A record of the ERP that can not be taken, until it is sent right.' })

export const quarantinePageBody = z
  .object({ items: z.array(quarantinedBody), nextCursor: z.string().nullable() })
  .meta({ id: 'QuarantinePage' })

export const quarantineQuery = deliveryQuery.omit({ status: true })

export const siteSwitchBody = z
  .strictObject({ domain: z.enum(domains) })
  .meta({ id: 'SiteSwitch', examples: [{ domain: 'webhooks' }] })

const siteSwitch = z.object({ siteId: rowId, domain: z.enum(domains), paused: z.boolean() })
export const sitePausedBody = siteSwitch.extend({ held: z.int().describe('Work items that wait from now on.') })
export const siteResumedBody = siteSwitch.extend({ released: z.int().describe('Work items that go on.') })

export const readinessBody = z
  .object({
    status: z.enum(['ok', 'degraded', 'unavailable']),
    checks: z.object({
      postgres: z.enum(['ok', 'down']),
      queue: z.enum(['ok', 'down']),
      progress: z.enum(['ok', 'down']).describe('Whether some process dispatches work.'),
    }),
  })
  .meta({ id: 'Readiness' })
