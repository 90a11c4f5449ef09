import type { Breaker } from '../clients/breaker.ts'
import { classify } from '../clients/classify.ts'
import { customHeaders } from '../clients/custom-headers.ts'
import type { Gate } from '../clients/gate.ts'
import type { Answer, NoAnswer, Sender } from '../clients/http-sender.ts'
import { sign } from '../clients/signature.ts'
import { recordDeliveries, type LedgerEntry, type LoadedDelivery } from '../db/queries/deliver.ts'
import { foldNews, recordLanes, type LaneNews } from '../db/queries/lanes.ts'
import {
  disableFailing,
  disableWebhooks,
  failingForMs,
  foldHealth,
  recordHealth,
} from '../db/queries/webhook-health.ts'
import { AppError } from '../errors.ts'
import { deliverWebhook, type DeliverWebhookPayload } from '../queues/deliver-webhook.ts'
import { holdReasons } from '../queues/hold-reasons.ts'
import { nextWaitMs, type RetrySchedule } from '../queues/retry-schedule.ts'
import type { Outcome, Processor, SettledRun } from './contract.ts'
import { lanesOf, loadRuns } from './delivery-lanes.ts'

export interface DeliverWebhookDeps {
  sender: Sender
  gate: Gate
  breaker: Breaker
  /** The schedule in force, so that a receiver's `Retry-After` never shortens it. Default: the job's. */
  retry?: RetrySchedule
  /** Default: the system's clock. */
  now?: () => Date
  /** Default: `Math.random`. */
  random?: () => number
}

/** What a run leaves for the ledger. */
interface AttemptRecord {
  /** The webhook whose health the attempt tells about; null when nothing was sent, or nothing new was learnt. */
  healthOf: number | null
  sent: LedgerEntry['sent']
  delivered: boolean
  error: string | null
  /** True when only the schedule could end it. */
  retriable: boolean
  /** Why this webhook must be switched off. */
  disable?: { webhookId: number; reason: string }
}

/** What a run leaves behind: for the ledger, and about the lane of its origin. */
export interface DeliveryRecord {
  attempt: AttemptRecord | null
  news: LaneNews | null
}

const askedAgain: readonly string[] = ['retry', 'replay']
/** Causes that say nothing of the origin. */
const neverSent: readonly string[] = ['refused', 'unusable', 'aborted']
const healthFreshMs = 10_000

/** Sends an event to a webhook and keeps its ledger (Standard Webhooks). */
export const deliverWebhookProcessor: Processor<
  DeliverWebhookPayload,
  DeliverWebhookDeps,
  LoadedDelivery,
  DeliveryRecord
> = {
  load: loadRuns,

  lanes: lanesOf,

  async process(_payload, deps, { loaded, trigger, attempt, lane: rungBy, signal }) {
    if (!loaded) return { kind: 'failed', error: 'the delivery was deleted, with or without its webhook' }
    if (loaded.isDelivered && !askedAgain.includes(trigger)) return { kind: 'done' }
    const { webhookId, targetUrl, secret, lane } = loaded
    if (webhookId === null || targetUrl === null || secret === null || lane === null)
      return unsent('the webhook was deleted')
    if (!loaded.isActive) {
      if (!loaded.isDisabledByUs) return unsent('the webhook is switched off')
      return {
        ...unsent(`held: the webhook was disabled: ${loaded.disabledReason ?? 'no reason noted'}`),
        kind: 'held',
        reason: holdReasons.webhookDisabled,
      }
    }
    if (loaded.eventId === null || !loaded.isEventStored) return unsent('the event is no longer stored')
    if (loaded.body === null) return unsent("the event's payload was removed after its retention period")

    if (!hasItsTurn(loaded, rungBy)) return { kind: 'parked', lane }
    const leave = await deps.gate.enter(lane, rungBy === null)
    if (!leave) return { kind: 'parked', lane, record: { attempt: null, news: { ...noNews, lane, parked: 1 } } }
    const at = deps.now?.() ?? new Date()
    const custom = customHeaders(loaded.headers)
    let answer: Answer | NoAnswer | undefined
    try {
      const timestamp = Math.floor(at.getTime() / 1_000)
      const body = Buffer.from(loaded.body)
      const signature = sign(secret, loaded.eventId, timestamp, body)
      const ours = [
        'webhook-id',
        loaded.eventId,
        'webhook-timestamp',
        String(timestamp),
        'webhook-signature',
        signature,
      ]
      answer = await deps.sender.post({ url: targetUrl, headers: [...ours, ...custom.pairs], body, signal })
    } catch (error) {
      if (error instanceof AppError) return unsent(error.message)
      throw error
    } finally {
      leave(answer?.kind === 'answer')
    }

    const nowMs = at.getTime() + answer.durationMs
    const verdict = classify(answer, nowMs)
    const delivered = verdict.kind === 'delivered'
    const stoppedByUs = answer.kind === 'none' && answer.cause === 'aborted'
    const news = newsOf(lane, loaded, answer, deps.breaker)
    const attemptRecord: AttemptRecord = {
      healthOf: stoppedByUs || !isNews(loaded, delivered, nowMs) ? null : webhookId,
      sent: {
        at,
        durationMs: answer.durationMs,
        statusCode: answer.kind === 'answer' ? answer.statusCode : null,
        responseBody: answer.kind === 'answer' ? answer.bodyText : null,
      },
      delivered,
      error: delivered ? null : verdict.error + leftOut(custom.leftOut),
      retriable: verdict.kind === 'retry',
    }
    const record: DeliveryRecord = { attempt: attemptRecord, news }
    switch (verdict.kind) {
      case 'delivered':
        return { kind: 'done', record }
      case 'gone': {
        // Always tells the health too: its row is locked before the webhook's, in every batch alike.
        const gone = { ...attemptRecord, healthOf: webhookId, disable: { webhookId, reason: 'answered 410 Gone' } }
        return { kind: 'failed', error: verdict.error, record: { attempt: gone, news } }
      }
      case 'failed':
        return { kind: 'failed', error: verdict.error, record }
      case 'retry': {
        const again = { kind: 'retry', error: verdict.error, record, ...(news && { lane }) } as const
        if (verdict.afterMs === null) return again
        const waitMs = nextWaitMs(deps.retry ?? deliverWebhook.retry, attempt, deps.random ?? Math.random) ?? 0
        return { ...again, at: new Date(nowMs + Math.max(waitMs, verdict.afterMs)) }
      }
    }
  },

  async settle(tx, runs, log) {
    const news = runs.flatMap(({ record }) => record.news ?? [])
    const attempted = runs.flatMap(({ record: { attempt }, ...run }) => (attempt ? [{ ...run, record: attempt }] : []))
    if (attempted.length > 0) await recordDeliveries(tx, attempted.map(ledgerEntry))
    const attempts = attempted.flatMap(({ record: { healthOf, sent, delivered } }) =>
      healthOf !== null && sent ? [{ webhookId: healthOf, at: sent.at, ok: delivered }] : [],
    )
    const failing = attempts.length > 0 ? await recordHealth(tx, foldHealth(attempts)) : []
    const disabled = failing.length > 0 ? await disableFailing(tx, failing, failingForMs) : []
    for (const webhook of disabled) log.warn(webhook, 'a webhook did nothing but fail for days: it is disabled')
    const disable = attempted.flatMap(({ record }) => record.disable ?? [])
    for (const reason of new Set(disable.map((each) => each.reason))) {
      const webhookIds = disable.filter((each) => each.reason === reason).map((each) => each.webhookId)
      await disableWebhooks(tx, webhookIds, reason)
    }
    // Last: every process that delivers there waits for a lane's row.
    if (news.length > 0) await recordLanes(tx, foldNews(news))
  },
}

function unsent(error: string): Outcome<DeliveryRecord> & { kind: 'failed' } {
  const attempt = { healthOf: null, sent: null, delivered: false, error, retriable: false }
  return { kind: 'failed', error, record: { attempt, news: null } }
}

/** What goes to an origin that others wait for goes in its turn: when its lane rang it, unless that broke since. */
function hasItsTurn({ isManaged, isOpen, lane }: LoadedDelivery, rungBy: string | null): boolean {
  return isManaged !== true || (rungBy === lane && !isOpen)
}

const noNews = { answered: 0, failed: 0, parked: 0, isBroken: false }

/** What an attempt tells about its origin: an answer below 500 is one; null where nobody needs to know. */
function newsOf(lane: string, { isManaged }: LoadedDelivery, answer: Answer | NoAnswer, breaker: Breaker) {
  if (answer.kind === 'none' && neverSent.includes(answer.cause)) return null
  const answered = answer.kind === 'answer' && answer.statusCode < 500
  const isBroken = breaker.note(lane, answered, answer.durationMs)
  if (!isBroken && isManaged !== true) return null
  return { ...noNews, lane, isBroken, ...(answered ? { answered: 1 } : { failed: 1 }) }
}

/** A webhook that is as well, or as ill, as it was seconds ago needs no write: at full speed that halves them. */
function isNews(loaded: LoadedDelivery, delivered: boolean, nowMs: number): boolean {
  const { isDisabledByUs, isFailing, healthNotedMs } = loaded
  return isDisabledByUs || delivered === isFailing || healthNotedMs === null || nowMs - healthNotedMs > healthFreshMs
}

function leftOut(names: readonly string[]): string {
  if (names.length === 0) return ''
  return ` (custom headers left out: ${names.map((name) => JSON.stringify(name.slice(0, 50))).join(', ')})`
}

function ledgerEntry({
  payload,
  trigger,
  attempt,
  outcome,
  nextAt,
  record,
}: SettledRun<DeliverWebhookPayload, AttemptRecord>): LedgerEntry {
  const { sent, delivered, error } = record
  return { deliveryId: payload.deliveryId, sent, delivered, error, message: error && error + whatNext(), trigger }

  function whatNext(): string {
    if (outcome === 'retry' && nextAt)
      return `; next attempt at ${nextAt.toISOString().slice(0, 19).replace('T', ' ')} UTC`
    return outcome === 'failed' && record.retriable ? `; gave up after ${attempt} attempts` : ''
  }
}
