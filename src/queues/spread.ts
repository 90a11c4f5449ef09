import { createHash } from 'node:crypto'

/** Seconds into the period at which a site's run falls, the same every time and different from its neighbours'. */
export function spreadSeconds(job: string, siteId: number, everySeconds: number): number {
  return createHash('sha256').update(`${job}:${siteId}`).digest().readUInt32BE() % everySeconds
}
