export { createClient } from './http.ts'
export type { Client, ClientOptions, DeliveriesFilter, SentEvent } from './http.ts'
export { WorkerApiError } from './problem.ts'
export { emitEvent, enqueue } from './transaction.ts'
export type { DrizzleHandle, EmittedEvent, PgHandle } from './transaction.ts'
export { eventIdPattern, eventNames } from './schemas.ts'
export type {
  AcceptedEventView,
  DeliveryDetail,
  DeliveryStatus,
  DeliveryView,
  EnqueuedJob,
  EventName,
  EventResult,
  JobView,
  NewEvent,
  Problem,
  WebhookView,
} from './schemas.ts'
