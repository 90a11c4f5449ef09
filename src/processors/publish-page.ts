import { setTimeout as sleep } from 'node:timers/promises'
import { createPageDiscovery } from '../db/queries/discover-pages.ts'
import { moveToPages, readDueTimes, recordUnpublished, type Publication } from '../db/queries/publish.ts'
import { versionMismatch } from '../queues/hold-reasons.ts'
import type { PublishPagePayload } from '../queues/publish-page.ts'
import type { Outcome, Processor } from './contract.ts'

export interface PublishPageDeps {
  /** Publishes a page that is due; many at a time in one transaction. */
  publishPage(pageId: number): Promise<Publication>
  /** Hears how late a page went out. */
  pagePublished(latenessSeconds: number): void
}

/** What the audit log is told of a page that was not published. */
export interface UnpublishedRecord {
  action: 'page.publish_held' | 'page.publish_failed'
  changes: object
}

/** How far off the time of a page was, ms, at an instant of `performance.now()`. */
interface Due {
  dueInMs: number
  readAt: number
}

/** What is further off than 9,000 years, infinity too, is waited for by nobody. */
const farthestMs = 9_000 * 366 * 86_400_000

/** A run that begins this much too early waits; one that begins earlier is owed again at the time of the page. */
const longestWaitMs = 2_000

/** Publishes a page, if its row still says so, once. */
export const publishPageProcessor: Processor<PublishPagePayload, PublishPageDeps, Due, UnpublishedRecord | null> = {
  async load(db, items) {
    const dueInMs = await readDueTimes(
      db,
      items.map(({ payload }) => payload.pageId),
    )
    const readAt = performance.now()
    return new Map(
      items.flatMap(({ workId, payload: { pageId } }) => {
        const due = dueInMs.get(pageId)
        return due === undefined ? [] : [[workId, { dueInMs: due, readAt }] as const]
      }),
    )
  },

  async process({ pageId }, deps, { loaded, signal }) {
    const waitMs = loaded ? Math.ceil(loaded.readAt + loaded.dueInMs - performance.now()) : 0
    if (waitMs > 0 && waitMs <= longestWaitMs) await sleep(waitMs, undefined, { signal })
    let publication = await deps.publishPage(pageId)
    if (publication.kind === 'early' && publication.dueInMs <= longestWaitMs) {
      await sleep(publication.dueInMs + 1, undefined, { signal })
      publication = await deps.publishPage(pageId)
    }
    if (publication.kind === 'published') deps.pagePublished(publication.latenessMs / 1_000)
    return outcomeOf(publication)
  },

  async settle(tx, runs) {
    const pages = runs.flatMap(({ payload, outcome, record }) =>
      record && (outcome === 'held' || outcome === 'failed') ? [{ pageId: payload.pageId, ...record }] : [],
    )
    if (pages.length > 0) await recordUnpublished(tx, pages)
    const postponed = runs.flatMap(({ workId, outcome }) => (outcome === 'postponed' ? [workId] : []))
    if (postponed.length > 0) await moveToPages(tx, postponed)
  },

  discover: createPageDiscovery(),
}

function outcomeOf(publication: Publication): Outcome<UnpublishedRecord | null> {
  switch (publication.kind) {
    case 'published': {
      const { version, publishedAt, latenessMs } = publication
      return { kind: 'done', result: { published: true, version, publishedAt, latenessMs: Math.round(latenessMs) } }
    }
    case 'early': {
      if (publication.dueInMs < farthestMs) return { kind: 'postponed', inMs: publication.dueInMs, record: null }
      return { kind: 'done', result: { published: false, why: 'the page is scheduled for no time that can be told' } }
    }
    case 'unneeded':
      return { kind: 'done', result: { published: false, why: publication.why } }
    case 'held':
      return { kind: 'held', reason: publication.reason }
    case 'mismatch': {
      const { wanted, version } = publication
      const changes = { version: { wanted, found: version } }
      const reason = `${versionMismatch}: ${wanted} was asked for, the page is at ${version}`
      return { kind: 'held', reason, record: { action: 'page.publish_held', changes } }
    }
    case 'later':
    case 'failed': {
      const { kind, error } = publication
      const record: UnpublishedRecord = { action: 'page.publish_failed', changes: { error } }
      return { kind: kind === 'later' ? 'retry' : 'failed', error, record }
    }
  }
}
