import type { z } from 'zod'
import type { replayRequestSchema } from '../client/schemas.ts'
import { hasEventBody, oweDelivery, type Delivery } from '../db/queries/deliveries.ts'
import { findWorkItem } from '../db/queries/jobs.ts'
import { listPending, listReplays } from '../db/queries/pending.ts'
import { databaseNowMs, oweWebhookJob, type WebhookJob, type WebhookJobRequest } from '../db/queries/webhook-jobs.ts'
import { findWebhook, webhookExists } from '../db/queries/webhooks.ts'
import { AppError } from '../errors.ts'
import { deliverWebhook } from '../queues/deliver-webhook.ts'
import { pingWebhook, type PingWebhookPayload } from '../queues/ping-webhook.ts'
import { replayWebhook, type ReplayWebhookPayload } from '../queues/replay-webhook.ts'
import { cancel } from '../work/transitions.ts'
import { cancelItem, retryItem, type ItemDeps } from './items.ts'

const noWebhook = (id: number) => new AppError('not_found', `There is no webhook ${id}`)

/**
 * Sends a delivery again, also when its work item is no longer kept, as long as its event's body is.
 * @throws AppError `conflict`, saying why that isn't possible
 */
export async function resendDelivery(deps: ItemDeps, delivery: Delivery): Promise<void> {
  const item = delivery.workId === null ? undefined : await findWorkItem(deps.db, deliverWebhook.name, delivery.workId)
  if ((!item || item.finishedAt) && !(await hasEventBody(deps.db, delivery.id))) {
    throw new AppError('conflict', "It can't be sent again: the event's body is no longer kept")
  }
  if (item) return retryItem(deps, item)
  const rung = deps.bell.ready()
  const ring = await oweDelivery(deps.db, delivery.id, rung)
  if (rung && ring) deps.bell.ring([ring])
}

/** Ends a delivery that is pending or held. @throws AppError `conflict`, saying why that isn't possible */
export async function cancelDelivery(deps: ItemDeps, { workId }: Delivery, by: string): Promise<void> {
  const item = workId === null ? undefined : await findWorkItem(deps.db, deliverWebhook.name, workId)
  if (!item) throw new AppError('conflict', 'It is over already')
  await cancelItem(deps, item, by)
}

/**
 * Ends every delivery of a webhook that is pending or held, and its replays, which would owe more. A batch a statement,
 * for as long as `budgetMs`.
 * @throws AppError `not_found`
 */
export async function cancelPending(
  { db }: Pick<ItemDeps, 'db'>,
  webhookId: number,
  by: string,
  budgetMs: number,
): Promise<{ cancelled: number; more: boolean }> {
  if (!(await webhookExists(db, webhookId))) throw noWebhook(webhookId)
  const until = performance.now() + budgetMs
  await cancel(db, await listReplays(db, webhookId), `cancelled by ${by}`)
  let cancelled = 0
  for (let after: string | null = ''; after !== null;) {
    const { workIds, next } = await listPending(db, webhookId, after)
    if (workIds.length > 0) cancelled += (await cancel(db, workIds, `cancelled by ${by}`)).length
    if (next !== null && performance.now() >= until) return { cancelled, more: true }
    after = next
  }
  return { cancelled, more: false }
}

async function owe(deps: ItemDeps, request: Omit<WebhookJobRequest, 'rung'>): Promise<WebhookJob> {
  const rung = deps.bell.ready()
  const made = await oweWebhookJob(deps.db, { ...request, rung })
  if (!made) throw noWebhook(request.webhookId)
  if (rung && made.created && made.state === 'owed') deps.bell.ring([made])
  return made
}

/** Owes one test message; asked again before it is sent, it is the same one. @throws AppError `not_found` */
export function askPing(deps: ItemDeps, webhookId: number): Promise<WebhookJob> {
  const payload: PingWebhookPayload = { webhookId }
  return owe(deps, {
    job: pingWebhook.name,
    webhookId,
    key: String(webhookId),
    payload,
    label: `ping of webhook ${webhookId}`,
  })
}

/** What Postgres and ISO 8601 can both say. */
const earliestMs = 0
const latestMs = Date.parse('9999-12-31T23:59:59.999Z')
const normalised = (ms: number) => new Date(Math.min(latestMs, Math.max(earliestMs, ms))).toISOString()

/**
 * Owes a replay; asked again before it is done, it is the same one, whose window ends where it did.
 * @throws AppError `not_found`; `invalid`; `conflict` when the webhook is off, so that nothing could be sent
 */
export async function askReplay(
  deps: ItemDeps,
  webhookId: number,
  request: z.output<typeof replayRequestSchema>,
): Promise<WebhookJob> {
  const webhook = await findWebhook(deps.db, webhookId)
  if (!webhook) throw noWebhook(webhookId)
  if (webhook.isActive !== true) {
    const why = webhook.disabledAt ? `disabled: ${webhook.disabledReason ?? 'no reason noted'}` : 'switched off'
    throw new AppError(
      'conflict',
      `The webhook is ${why}. Switch it on first (website_webhooks.is_active), then replay`,
    )
  }
  const nowMs = await databaseNowMs(deps.db)
  const { status } = request
  const since = normalised(Date.parse(request.since))
  const until = normalised(request.until === undefined ? nowMs : Date.parse(request.until))
  if (since > until) throw new AppError('invalid', 'Must not lie in the future', { field: 'since' })
  const payload: ReplayWebhookPayload = { webhookId, since, until, status }
  return owe(deps, {
    job: replayWebhook.name,
    webhookId,
    // Without an end of its own each request would be another one, and a second click would send everything twice.
    key: [webhookId, since, request.until === undefined ? 'now' : until, status].join(':'),
    payload,
    label: `replay of webhook ${webhookId} (${status})`,
  })
}
