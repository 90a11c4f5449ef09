import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import { customHeaders } from '../clients/custom-headers.ts'
import type { Answer, NoAnswer, Sender } from '../clients/http-sender.ts'
import { encodingNames, signWith } from '../clients/signature.ts'
import type { Db } from '../db/client.ts'
import { findPingTarget } from '../db/queries/ping.ts'
import { AppError } from '../errors.ts'
import type { PingWebhookPayload } from '../queues/ping-webhook.ts'
import type { Processor } from './contract.ts'
import { readSecret, type SigningKeys } from '../signing-secret.ts'

export interface PingWebhookDeps {
  db: Db
  sender: Sender
  /** Default: the system's clock. */
  now?: () => Date
}

/** Sends a test message: also to a webhook that is off, with no ledger row and no word on its health. */
export const pingWebhookProcessor: Processor<PingWebhookPayload, PingWebhookDeps> = {
  async process({ webhookId }, deps, { signal }) {
    const target = await findPingTarget(deps.db, webhookId)
    if (!target) return { kind: 'failed', error: 'the webhook was deleted' }
    let keys: SigningKeys
    try {
      keys = readSecret(target.secret)
    } catch (error) {
      if (error instanceof AppError) return { kind: 'failed', error: error.message }
      throw error
    }

    const at = deps.now?.() ?? new Date()
    const timestamp = Math.floor(at.getTime() / 1_000)
    const id = `ping_${randomUUID()}`
    const message = { type: 'webhook.ping', timestamp: at.toISOString(), siteId: target.siteId, data: { webhookId } }
    const body = Buffer.from(JSON.stringify(message))
    const signature = signWith(keys, id, timestamp, body)
    const ours = ['webhook-id', id, 'webhook-timestamp', String(timestamp), 'webhook-signature', signature]
    const answer = await deps.sender.post({
      url: target.targetUrl,
      headers: [...ours, ...customHeaders(target.headers).pairs],
      body,
      signal,
    })
    if (answer.kind === 'none' && answer.cause === 'aborted') return { kind: 'retry', error: answer.error }
    return {
      kind: 'done',
      result: {
        ...verdictOf(answer),
        durationMs: answer.durationMs,
        keyEncoding: encodingNames[keys.encoding],
        signatures: keys.keys.length,
      },
    }
  },
}

function verdictOf(answer: Answer | NoAnswer): { ok: boolean; statusCode: number | null; error: string | null } {
  if (answer.kind === 'none') return { ok: false, statusCode: null, error: answer.error }
  const { statusCode } = answer
  if (statusCode >= 200 && statusCode < 300) return { ok: true, statusCode, error: null }
  const words = `answered ${statusCode} ${STATUS_CODES[statusCode] ?? ''}`.trimEnd()
  return { ok: false, statusCode, error: statusCode < 400 ? `${words}: redirects are not followed` : words }
}
