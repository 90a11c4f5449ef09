import { z } from 'zod'

/** What a webhook may listen to: the check on `website_webhooks.event`. */
export const eventNames = [
  'order.created',
  'order.updated',
  'payment.succeeded',
  'payment.failed',
  'content.published',
  'product.updated',
  'customer.created',
] as const
export type EventName = (typeof eventNames)[number]

/** What an event may be called by its emitter. */
export const eventIdPattern = /^[A-Za-z0-9_-]{1,255}$/

/** The longest body that is signed and sent, bytes. */
export const maxEventBytes = 262_144

/** How deep `data` may nest: parsers of receivers give up far later than this. */
export const maxDataDepth = 100

const maxBatchEvents = 1000

const rowId = z.int32().positive()
const instant = z.iso.datetime({ offset: true })

/** An event as it is sent to `POST /v1/events`. */
export const newEventSchema = z.strictObject({
  siteId: rowId,
  event: z.enum(eventNames),
  data: z.unknown().superRefine((value, context) => {
    if (value === undefined) context.addIssue({ code: 'custom', message: 'Required: any JSON value' })
    else if (!nestsWithin(value, maxDataDepth))
      context.addIssue({ code: 'custom', message: `Nested deeper than ${maxDataDepth} levels` })
  }),
  id: z.string().regex(eventIdPattern, '1 to 255 letters, digits, `_` or `-`').optional(),
  occurredAt: instant.optional(),
})
export type NewEvent = z.infer<typeof newEventSchema>

/** The envelope of `POST /v1/events/batch`; its events are judged one by one. */
export const eventBatchSchema = z.strictObject({ events: z.array(z.unknown()).min(1).max(maxBatchEvents) })

/** RFC 9457; `errors` names the fields. */
export const problemSchema = z.looseObject({
  type: z.string().optional(),
  title: z.string(),
  status: z.int(),
  detail: z.string().optional(),
  errors: z.array(z.looseObject({ field: z.string(), message: z.string() })).optional(),
})
export type Problem = z.infer<typeof problemSchema>

/** A delivery that accepting an event made. */
export const acceptedDeliverySchema = z.object({
  id: rowId,
  webhookId: rowId,
  status: z.enum(['pending', 'held']),
})

/** The answer to one event. */
export const acceptedEventSchema = z.object({ eventId: z.string(), deliveries: z.array(acceptedDeliverySchema) })
export type AcceptedEventView = z.infer<typeof acceptedEventSchema>

/** The answer to one event of a batch. */
export const eventResultSchema = z.discriminatedUnion('outcome', [
  acceptedEventSchema.extend({ outcome: z.enum(['accepted', 'replayed']) }),
  z.object({ outcome: z.enum(['conflict', 'invalid']), problem: problemSchema }),
])
export const eventBatchResultSchema = z.object({ results: z.array(eventResultSchema) })
export type EventResult = z.infer<typeof eventResultSchema>

/** BullMQ's words for a work item, and two of our own. */
export const jobStates = ['waiting', 'delayed', 'active', 'completed', 'failed', 'held', 'cancelled'] as const

/** The answer to `POST /v1/jobs/{job}`. */
export const enqueuedJobSchema = z.object({ jobId: z.int(), state: z.enum(jobStates), href: z.string() })
export type EnqueuedJob = z.infer<typeof enqueuedJobSchema>

/** A work item as the API shows it. */
export const jobViewSchema = z.object({
  jobId: z.int(),
  job: z.string(),
  siteId: rowId.nullable(),
  label: z.string(),
  payload: z.record(z.string(), z.unknown()),
  state: z.enum(jobStates),
  /** Why it is held, failed or cancelled. */
  reason: z.string().nullable(),
  attempts: z.int(),
  progress: z.unknown(),
  result: z.unknown(),
  failedReason: z.string().nullable(),
  createdAt: instant,
  nextAt: instant.nullable(),
  finishedAt: instant.nullable(),
})
export type JobView = z.infer<typeof jobViewSchema>

export const deliveryStatuses = ['pending', 'delivered', 'failed', 'held', 'cancelled'] as const
export type DeliveryStatus = (typeof deliveryStatuses)[number]

/** One webhook × event. */
export const deliveryViewSchema = z.object({
  id: rowId,
  webhookId: rowId,
  siteId: rowId.nullable(),
  eventId: z.string().nullable(),
  event: z.string(),
  status: z.enum(deliveryStatuses),
  attemptCount: z.int(),
  statusCode: z.int().nullable(),
  error: z.string().nullable(),
  createdAt: instant,
  nextAt: instant.nullable(),
  deliveredAt: instant.nullable(),
})
export type DeliveryView = z.infer<typeof deliveryViewSchema>
export const deliveryPageSchema = z.object({ items: z.array(deliveryViewSchema), nextCursor: z.string().nullable() })
export type DeliveryPage = z.infer<typeof deliveryPageSchema>

/** One HTTP request of a delivery. */
export const deliveryAttemptSchema = z.object({
  attempt: z.int(),
  at: instant,
  statusCode: z.int().nullable(),
  durationMs: z.int(),
  error: z.string().nullable(),
  trigger: z.string(),
})
export const deliveryDetailSchema = deliveryViewSchema.extend({
  responseBody: z.string().nullable(),
  attempts: z.array(deliveryAttemptSchema),
})
export type DeliveryDetail = z.infer<typeof deliveryDetailSchema>

/** A webhook and how it fares; never its secret. */
export const webhookViewSchema = z.object({
  id: rowId,
  siteId: rowId.nullable(),
  name: z.string(),
  event: z.string(),
  targetUrl: z.string(),
  isActive: z.boolean(),
  health: z.enum(['healthy', 'failing', 'disabled']),
  disabledReason: z.string().nullable(),
  disabledAt: instant.nullable(),
  failingSince: instant.nullable(),
  lastSuccessAt: instant.nullable(),
  lastFailureAt: instant.nullable(),
})
export type WebhookView = z.infer<typeof webhookViewSchema>

/** Whether a JSON value has at most `levels` arrays and objects inside each other; never recurses deeper than that. */
function nestsWithin(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true
  if (levels === 0) return false
  for (const inner of Object.values(value)) if (!nestsWithin(inner, levels - 1)) return false
  return true
}
