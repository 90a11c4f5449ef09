import { createHmac } from 'node:crypto'
import { readSecret, type SigningKeys } from '../signing-secret.ts'

/** How a person calls the encoding: what tells the two apart is the prefix. */
export const encodingNames = { base64: 'base64 (whsec_)', utf8: 'utf-8' } as const

/** The `webhook-signature` header: one `v1,<base64>` per key, over `id.timestamp.body` (Standard Webhooks). */
export function signWith(
  { keys }: SigningKeys,
  id: string,
  timestampSeconds: number,
  body: string | Uint8Array,
): string {
  const head = `${id}.${timestampSeconds}.`
  return keys.map((key) => `v1,${createHmac('sha256', key).update(head).update(body).digest('base64')}`).join(' ')
}

/** `signWith` straight from the secret as it is stored. */
export function sign(secret: string, id: string, timestampSeconds: number, body: string | Uint8Array): string {
  return signWith(readSecret(secret), id, timestampSeconds, body)
}
