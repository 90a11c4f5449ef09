import { AppError } from './errors.ts'

/** How a webhook's secret was read: `base64` after `whsec_`, else its UTF-8 bytes. */
export type SecretEncoding = 'base64' | 'utf8'

/** The keys that sign for one webhook. */
export interface SigningKeys {
  encoding: SecretEncoding
  keys: readonly Buffer[]
}

const prefix = 'whsec_'

/**
 * Reads a webhook's secret as Standard Webhooks does; several `whsec_` secrets separated by spaces all sign.
 * Throws `invalid` for a secret nobody could verify with.
 */
export function readSecret(secret: string): SigningKeys {
  if (!secret.startsWith(prefix)) {
    if (secret.trim() === '') throw new AppError('invalid', 'the webhook has no secret to sign with')
    return { encoding: 'utf8', keys: [Buffer.from(secret, 'utf8')] }
  }
  return { encoding: 'base64', keys: secret.trim().split(/\s+/).map(decodeKey) }
}

function decodeKey(part: string, index: number): Buffer {
  const which = index === 0 ? 'the webhook secret' : `part ${index + 1} of the webhook secret`
  if (!part.startsWith(prefix)) {
    throw new AppError('invalid', `${which} doesn't start with whsec_, as every one of several must`)
  }
  const encoded = part.slice(prefix.length)
  if (/^=*$/.test(encoded)) throw new AppError('invalid', `${which} is empty after whsec_`)
  const key = Buffer.from(encoded, 'base64')
  // Node skips what isn't base64; only what encodes back to the same text was meant.
  if (key.toString('base64').replaceAll('=', '') !== encoded.replace(/={1,2}$/, '')) {
    throw new AppError('invalid', `${which} is not valid base64 after whsec_`)
  }
  return key
}
