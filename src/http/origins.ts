import type { Db } from '../db/client.ts'
import { findLane, isKnownLane, removeLaneLimits, setLaneLimits, type LaneLimits } from '../db/queries/lane-limits.ts'
import { AppError } from '../errors.ts'

/** Stands for every origin without limits of its own. */
export const everyOrigin = '*'

const refuse = (message: string) => new AppError('invalid', message, { field: 'origin' })

/** An origin as a URL parser writes it. @throws AppError `invalid` */
function normalise(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  // The parser lets through hosts that no server has, like `*`.
  if (!url || !/^[\w.:[\]-]*$/.test(url.host))
    throw refuse('Not an origin: give one like https://shop.example, or * for all')
  const { origin, protocol, username, password, pathname, search, hash } = url
  if (protocol !== 'http:' && protocol !== 'https:') throw refuse('Only origins of http and https have limits')
  if (username || password || pathname !== '/' || search || hash)
    throw refuse('An origin has no user, path, query or fragment')
  return origin
}

/**
 * What an origin is called in the database. Deliveries go by the words in their webhook's URL: what is known there as it
 * is given keeps that name.
 * @throws AppError `invalid`
 */
export async function readOrigin(db: Db, text: string): Promise<string> {
  if (text === everyOrigin) return text
  if (/\p{Cc}/u.test(text)) throw refuse('An origin has no control characters')
  const asGiven = text.toLowerCase().replace(/\/$/, '')
  return (await isKnownLane(db, asGiven)) ? asGiven : normalise(text)
}

/** Sets limits and shows what came of it. @throws AppError `invalid` */
export async function setOrigin(db: Db, text: string, limits: LaneLimits) {
  const origin = await readOrigin(db, text)
  await setLaneLimits(db, origin, limits)
  return findLane(db, origin)
}

/** Takes the limits of an origin away. @throws AppError `invalid`, `not_found` when it has none */
export async function resetOrigin(db: Db, text: string) {
  const origin = await readOrigin(db, text)
  if (!(await removeLaneLimits(db, origin))) throw new AppError('not_found', `No limits are set for ${origin}`)
  return findLane(db, origin)
}
