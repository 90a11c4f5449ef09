import { expectTypeOf, test } from 'vitest'
import type { z } from 'zod'
import type * as views from '../../src/client/views.ts'
import type * as api from '../../src/http/schemas.ts'

/** A value after its trip as JSON. */
type Wire<T> = T extends Date ? string : T extends object ? { [Key in keyof T]: Wire<T[Key]> } : T
type Answer<Schema extends z.ZodType> = Wire<z.output<Schema>>

test('types every answer as the API declares it', () => {
  expectTypeOf<Answer<typeof api.acceptedEventBody>>().toEqualTypeOf<views.AcceptedEvent>()
  expectTypeOf<Answer<typeof api.batchResultBody>>().toExtend<{ results: views.EventResult[] }>()
  expectTypeOf<Answer<typeof api.problemBody>>().toExtend<views.Problem>()
  expectTypeOf<Answer<typeof api.enqueuedJobBody>>().toEqualTypeOf<views.EnqueuedJob>()
  expectTypeOf<Answer<typeof api.jobBody>>().toEqualTypeOf<views.Job>()
  expectTypeOf<Answer<typeof api.deliveryPageBody>>().toEqualTypeOf<views.DeliveryPage>()
  expectTypeOf<Answer<typeof api.deliveryDetailBody>>().toEqualTypeOf<views.DeliveryDetail>()
  expectTypeOf<Answer<typeof api.cancelledBody>>().toEqualTypeOf<views.CancelledDeliveries>()
  expectTypeOf<Answer<typeof api.webhookBody>>().toEqualTypeOf<views.Webhook>()
  expectTypeOf<Answer<typeof api.syncRunPageBody>>().toEqualTypeOf<views.SyncRunPage>()
  expectTypeOf<Answer<typeof api.quarantinePageBody>>().toEqualTypeOf<views.QuarantinePage>()
  expectTypeOf<Answer<typeof api.originPageBody>>().toEqualTypeOf<views.OriginPage>()
  expectTypeOf<Answer<typeof api.originBody>>().toEqualTypeOf<views.Origin>()
})
