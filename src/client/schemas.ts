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

/** How deep `data` may nest: parsers of receivers give up far later than this. */
const maxDataDepth = 100

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

/** A delivery that accepting an event made. */
export const acceptedDeliverySchema = z.object({
  id: rowId,
  webhookId: rowId,
  status: z.enum(['pending', 'held']),
})

/** The answer to one event. */
export const acceptedEventSchema = z.object({ eventId: z.string(), deliveries: z.array(acceptedDeliverySchema) })

/** BullMQ's words for a work item, and two of our own. */
export const jobStates = ['waiting', 'delayed', 'active', 'completed', 'failed', 'held', 'cancelled'] as const

/** Where a delivery can stand. */
export const deliveryStatuses = ['pending', 'delivered', 'failed', 'held', 'cancelled'] as const

/** Which deliveries a replay may be about: where they stand when it comes to them. */
export const replayableStatuses = ['failed', 'held', 'cancelled', 'delivered'] as const

/** What `POST /v1/webhooks/{id}/replay` takes. */
export const replayRequestSchema = z
  .strictObject({
    since: instant,
    until: instant.optional(),
    status: z.enum(replayableStatuses).default('failed'),
  })
  .refine(({ since, until }) => until === undefined || Date.parse(since) <= Date.parse(until), {
    path: ['since'],
    message: 'Must not be later than `until`',
  })

/** The streams of an ERP. */
export const syncTypes = ['product', 'inventory', 'price'] as const

/** Where a run of a stream can stand. */
export const syncRunStatuses = ['running', 'done', 'failed', 'abandoned'] as const

/** What `PUT /v1/origins/{origin}` takes. */
export const originLimitsSchema = z
  .strictObject({
    /** Requests at a time, over all processes. */
    maxConcurrent: z.int().min(1).max(1_000).nullish(),
    requestsPerSecond: z.number().min(0.01).max(10_000).nullish(),
  })
  .refine(({ maxConcurrent, requestsPerSecond }) => maxConcurrent !== undefined || requestsPerSecond !== undefined, {
    path: ['maxConcurrent'],
    message: 'Give `maxConcurrent`, `requestsPerSecond` or both; null is unlimited',
  })

/** Whether a JSON value has at most `levels` arrays and objects inside each other; never recurses deeper than that. */
function nestsWithin(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true
  if (levels === 0) return false
  for (const inner of Object.values(value)) if (!nestsWithin(inner, levels - 1)) return false
  return true
}
