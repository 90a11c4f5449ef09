import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { AppError } from '../errors.ts'
import { readSecret } from '../signing-secret.ts'

/** How far the sender's clock may be off, either way. */
const toleranceSeconds = 300
/** Signatures of one message that are looked at. */
const mostSignatures = 20

const digest = (value: string) => createHash('sha256').update(value).digest()

/** A message whose sender knows a secret. */
export interface Verified {
  /** `webhook-id`: the same for every attempt to send it. */
  id: string
}

/**
 * Checks messages as Standard Webhooks signs them. `secrets`: one or several, separated by spaces; with none every message
 * is refused. The time taken tells nothing about which of them fits.
 * @throws AppError `misconfigured` for a secret that nobody could sign with
 */
export function createVerifier(
  secrets: string | undefined,
  now: () => number = Date.now,
): (headers: IncomingHttpHeaders, body: Buffer) => Verified {
  const keys = (secrets ?? '').split(' ').filter(Boolean).flatMap(keysOf)
  return ({ 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures }, body) => {
    const refuse = (why: string) => new AppError('unauthorized', why)
    if (keys.length === 0) throw refuse('No secret is set for this call: set ERP_WEBHOOK_SECRET')
    if (typeof id !== 'string' || typeof timestamp !== 'string' || typeof signatures !== 'string')
      throw refuse('Sign it as Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature')
    if (!/^[\x21-\x7e]{1,255}$/.test(id)) throw refuse('webhook-id is not 1 to 255 visible characters')
    if (!/^\d{1,12}$/.test(timestamp)) throw refuse('webhook-timestamp is not in seconds since 1970')
    const given = signatures.split(' ', mostSignatures).map(digest)
    let fits = false
    for (const key of keys) {
      const mac = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')
      const expected = digest(`v1,${mac}`)
      for (const each of given) if (timingSafeEqual(each, expected)) fits = true
    }
    if (!fits) throw refuse('webhook-signature fits no secret')
    if (Math.abs(now() / 1_000 - Number(timestamp)) > toleranceSeconds)
      throw refuse(`webhook-timestamp is more than ${toleranceSeconds} seconds away from now`)
    return { id }
  }
}

function keysOf(secret: string): readonly Buffer[] {
  try {
    return readSecret(secret).keys
  } catch (error) {
    throw new AppError('misconfigured', `ERP_WEBHOOK_SECRET: ${(error as Error).message}`, { cause: error })
  }
}
