import { sql } from 'drizzle-orm'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { enqueueItem } from '../../src/db/queries/enqueue.ts'
import { publishPage } from '../../src/queues/publish-page.ts'
import { cancel, promote, retry } from '../../src/work/transitions.ts'
import { publishingStack, type PublishingStack } from './publish-fixtures.ts'

let stack: PublishingStack | undefined
afterEach(async () => {
  await stack?.close()
  stack = undefined
})

async function open(options: Parameters<typeof publishingStack>[0] = {}): Promise<PublishingStack> {
  stack = await publishingStack(options)
  return stack
}

const patience = { timeout: 15_000, interval: 20 }
const untilPublished = ({ pages }: PublishingStack, id: number) =>
  vi.waitFor(async () => expect((await pages.read(id)).status).toBe('published'), patience)
const untilEnded = ({ pages }: PublishingStack, id: number, ...states: string[]) =>
  vi.waitFor(async () => expect((await pages.items(id)).map((item) => item.state)).toEqual(states), patience)

/** What publishing leaves behind: versions, events, and audit rows by action. */
async function traces({ pages }: PublishingStack, id: number) {
  return {
    versions: (await pages.versions(id)).length,
    events: (await pages.events(id)).length,
    audit: (await pages.audit(id)).map((row) => row.action),
  }
}
const once = { versions: 1, events: 1, audit: ['page.published'] }
const never = { versions: 0, events: 0, audit: [] }

describe.each(['redis', 'postgres'] as const)('on %s', (backend) => {
  test('publishes each page once and not before its time, enqueued or not', async () => {
    const latenesses: number[] = []
    const s = await open({ backend, latenesses })
    const site = await s.pages.site()
    const ids: number[] = []
    for (let n = 0; n < 40; n++) ids.push(await s.pages.page(site, 300 + n * 37))
    for (const pageId of ids.filter((_, n) => n % 2 === 0))
      await enqueueItem(s.db, 'publish-page', { pageId }, { rung: false })
    s.work()
    s.dispatcher.start()
    for (const id of ids) await untilPublished(s, id)
    for (const id of ids) {
      await untilEnded(s, id, 'done')
      expect(await traces(s, id)).toEqual(once)
      const { publishAt, publishedAt } = await s.pages.read(id)
      expect(publishedAt!.getTime()).toBeGreaterThanOrEqual(publishAt!.getTime())
    }
    expect(latenesses).toHaveLength(40)
    expect(Math.min(...latenesses)).toBeGreaterThanOrEqual(0)
  })
})

test('publishes what came due while nobody worked, oldest first', async () => {
  const s = await open()
  const site = await s.pages.site()
  const ids: number[] = []
  for (const dueInMs of [-1_000, -86_400_000, -60_000]) ids.push(await s.pages.page(site, dueInMs))
  await s.dispatcher.tick()
  const { rows } = await s.db.execute(sql`SELECT key FROM website_worker.work ORDER BY id`)
  expect(rows.map((row) => Number(row.key))).toEqual([ids[1], ids[2], ids[0]])
  s.work()
  for (const id of ids) await untilPublished(s, id)
})

test('is rung a moment before its time, so that its run is ready', async () => {
  const s = await open()
  const id = await s.pages.page(await s.pages.site(), 30_000)
  await s.dispatcher.tick()
  const [ring] = await s.backend.queue('publish-page').getDelayed()
  const { nextAt } = (await s.pages.items(id))[0]!
  expect(ring!.delay).toBeGreaterThan(0)
  expect(ring!.delay).toBeLessThanOrEqual(30_000 - publishPage.ringAheadMs!)
  expect(nextAt).toEqual((await s.pages.read(id)).publishAt)
})

test('waits out the last moments when a run begins too early', async () => {
  const s = await open()
  const id = await s.pages.page(await s.pages.site(), 1_500)
  await enqueueItem(s.db, 'publish-page', { pageId: id }, { rung: false })
  await s.db.execute(sql`UPDATE website_worker.work SET next_at = now()`)
  s.work()
  await s.dispatcher.tick()
  await untilPublished(s, id)
  await untilEnded(s, id, 'done')
  expect(await s.pages.items(id)).toMatchObject([{ attempts: 1, result: { published: true } }])
})

describe('changed before the time', () => {
  /** A page that is owed and rung for a second from now; its run begins once workers do. */
  async function scheduled() {
    const s = await open()
    const id = await s.pages.page(await s.pages.site(), 1_000)
    await s.dispatcher.tick()
    expect(await s.pages.items(id)).toMatchObject([{ state: 'owed', rungAt: expect.any(Date) }])
    return { s, id }
  }

  test('cancelled: nothing happens', async () => {
    const { s, id } = await scheduled()
    await s.pages.change(id, { status: 'draft' })
    s.work()
    await untilEnded(s, id, 'done')
    expect((await s.pages.items(id))[0]!.result).toEqual({
      published: false,
      why: 'the page is not scheduled but draft',
    })
    expect(await s.pages.read(id)).toMatchObject({ status: 'draft', publishedAt: null })
    expect(await traces(s, id)).toEqual(never)
  })

  test('deleted: nothing happens', async () => {
    const { s, id } = await scheduled()
    await s.pages.change(id, { deletedAt: new Date() })
    s.work()
    await untilEnded(s, id, 'done')
    expect(await traces(s, id)).toEqual(never)
  })

  test('deleted for good: nothing happens', async () => {
    const { s, id } = await scheduled()
    await s.db.execute(sql`DELETE FROM website_pages WHERE id = ${id}`)
    s.work()
    await untilEnded(s, id, 'done')
  })

  test('edited: goes out as it stands then, once', async () => {
    const { s, id } = await scheduled()
    await s.pages.change(id, { title: 'Better', version: 2 })
    s.work()
    await untilPublished(s, id)
    expect(await traces(s, id)).toEqual(once)
    expect(await s.pages.versions(id)).toMatchObject([{ version: 2, title: 'Better' }])
    expect(await s.pages.events(id)).toMatchObject([{ body: { data: { title: 'Better', version: 2 } } }])
  })

  test('put off: goes out at the later time, and not before', async () => {
    const { s, id } = await scheduled()
    await s.pages.reschedule(id, 6_000)
    const publishAtThen = (await s.pages.read(id)).publishAt
    s.work()
    await vi.waitFor(
      async () =>
        expect(await s.pages.items(id)).toMatchObject([{ state: 'owed', nextAt: publishAtThen, rungAt: null }]),
      patience,
    )
    expect(await traces(s, id)).toEqual(never)
    s.dispatcher.start()
    await untilPublished(s, id)
    await untilEnded(s, id, 'done')
    expect(await traces(s, id)).toEqual(once)
    const { publishAt, publishedAt } = await s.pages.read(id)
    expect(publishedAt!.getTime()).toBeGreaterThanOrEqual(publishAt!.getTime())
  })

  test.each(['promoted', 'retried after it was cancelled', 'promoted for a time it no longer has'])(
    '%s: waits for its time as the same item, without an attempt',
    async (how) => {
      const s = await open()
      const id = await s.pages.page(await s.pages.site(), 3_600_000)
      const { workId } = await enqueueItem(s.db, 'publish-page', { pageId: id }, { rung: false })
      if (how.endsWith('no longer has')) await s.pages.reschedule(id, 7_200_000)
      const { publishAt } = await s.pages.read(id)
      s.work()
      for (let time = 1; time <= 2; time++) {
        if (how.startsWith('retried')) {
          await cancel(s.db, [workId], 'cancelled by ops')
          s.bell.ring(await retry(s.db, [workId], 'retry'))
        } else s.bell.ring(await promote(s.db, [workId]))
        await vi.waitFor(
          async () => expect(await s.pages.items(id)).toMatchObject([{ id: workId, state: 'owed', nextAt: publishAt }]),
          patience,
        )
      }
      const [item] = await s.pages.items(id)
      expect(item).toMatchObject({ attempts: 0, lastError: null, rungAt: null })
      expect(new Date((item!.payload as { publishAt: string }).publishAt)).toEqual(publishAt)
      expect(await traces(s, id)).toEqual(never)
    },
  )

  test('brought forward: goes out at the earlier time, also when it was rung for a later one', async () => {
    const s = await open()
    const id = await s.pages.page(await s.pages.site(), 50_000)
    s.work()
    await s.dispatcher.tick()
    await s.pages.reschedule(id, 500)
    await s.dispatcher.tick()
    await untilPublished(s, id)
    await untilEnded(s, id, 'done')
    expect(await traces(s, id)).toEqual(once)
  })

  test('asked for again at another time: the same item goes there', async () => {
    const s = await open()
    const id = await s.pages.page(await s.pages.site(), null, { status: 'draft' })
    const { workId } = await enqueueItem(
      s.db,
      'publish-page',
      { pageId: id, publishAt: '2031-01-01T00:00:00Z' },
      { rung: false },
    )
    const now = new Date().toISOString()
    expect(await enqueueItem(s.db, 'publish-page', { pageId: id, publishAt: now }, { rung: false })).toMatchObject({
      workId,
    })
    s.work()
    s.dispatcher.start()
    await untilPublished(s, id)
    await untilEnded(s, id, 'done')
    expect(await traces(s, id)).toEqual(once)
  })
})

test.each([
  ['site inactive', { status: 'inactive' as const }],
  ['site in maintenance', { status: 'maintenance' as const }],
  ['site deleted', { deletedAt: new Date() }],
])('holds a page while its %s, and lets it go when the site is back', async (reason, state) => {
  const s = await open()
  const site = await s.pages.site(state)
  const [id, other] = [await s.pages.page(site, -1), await s.pages.page(await s.pages.site(), -1)]
  s.work()
  s.dispatcher.start()
  await untilPublished(s, other)
  await untilEnded(s, id, 'held')
  expect(await s.pages.items(id)).toMatchObject([{ reason }])
  expect(await traces(s, id)).toEqual(never)
  await s.db.execute(sql`UPDATE website_sites SET status = 'active', deleted_at = NULL WHERE id = ${site}`)
  await untilPublished(s, id)
  await untilEnded(s, id, 'done')
  expect(await traces(s, id)).toEqual(once)
})

test('another version than the one asked for is held once, until someone asks again', async () => {
  const s = await open()
  const id = await s.pages.page(await s.pages.site(), null, { status: 'draft', version: 3 })
  await enqueueItem(s.db, 'publish-page', { pageId: id, version: 2 }, { rung: false })
  s.work()
  s.dispatcher.start()
  await untilEnded(s, id, 'held')
  expect(await s.pages.items(id)).toMatchObject([
    { reason: 'version mismatch: 2 was asked for, the page is at 3', attempts: 0 },
  ])
  await s.dispatcher.tick()
  expect(await traces(s, id)).toEqual({ versions: 0, events: 0, audit: ['page.publish_held'] })
  expect(await s.pages.audit(id)).toMatchObject([{ changes: { version: { wanted: 2, found: 3 } } }])
  await enqueueItem(s.db, 'publish-page', { pageId: id, version: 3 }, { rung: false })
  await untilPublished(s, id)
  await untilEnded(s, id, 'done')
  expect(await traces(s, id)).toEqual({ ...once, audit: ['page.publish_held', 'page.published'] })
})

describe('held for its version', () => {
  /** A page at version 3 of which version 2 was asked for, and the item that is held. */
  async function held() {
    const s = await open()
    const id = await s.pages.page(await s.pages.site(), null, { status: 'draft', version: 3 })
    await enqueueItem(s.db, 'publish-page', { pageId: id, version: 2 }, { rung: false })
    s.work()
    s.dispatcher.start()
    await untilEnded(s, id, 'held')
    return { s, id }
  }

  test.each([
    ['published by hand', { status: 'published' as const }],
    ['put back to draft', { status: 'draft' as const }],
    ['deleted', { deletedAt: new Date() }],
  ])('it is let go when the page is %s', async (_, values) => {
    const { s, id } = await held()
    await s.pages.change(id, values)
    await untilEnded(s, id, 'done')
    expect(await traces(s, id)).toEqual({ ...never, audit: ['page.publish_held'] })
  })

  test('it is let go when the page is deleted for good', async () => {
    const { s, id } = await held()
    await s.db.execute(sql`DELETE FROM website_pages WHERE id = ${id}`)
    await untilEnded(s, id, 'cancelled')
  })

  test('it goes out when the page is at that version', async () => {
    const { s, id } = await held()
    await s.pages.change(id, { version: 2 })
    await untilPublished(s, id)
    await untilEnded(s, id, 'done')
    expect(await traces(s, id)).toEqual({ ...once, audit: ['page.publish_held', 'page.published'] })
  })

  test('it waits for the later time that the page is given', async () => {
    const { s, id } = await held()
    await s.pages.reschedule(id, 3_600_000)
    const { publishAt } = await s.pages.read(id)
    await vi.waitFor(
      async () => expect(await s.pages.items(id)).toMatchObject([{ state: 'owed', nextAt: publishAt }]),
      patience,
    )
  })
})

test('a page that can’t be published fails where people look, and the others go out', async () => {
  const s = await open()
  const site = await s.pages.site()
  await s.db.execute(sql`ALTER TABLE website_pages ADD CONSTRAINT tame CHECK (slug <> 'wild' OR status <> 'published')`)
  const wild = await s.pages.page(site, -2, { slug: 'wild' })
  const tame = [await s.pages.page(site, -3), await s.pages.page(site, -1)]
  s.work()
  s.dispatcher.start()
  for (const id of tame) await untilPublished(s, id)
  await untilEnded(s, wild, 'failed')
  await s.dispatcher.tick()
  const [item] = await s.pages.items(wild)
  expect(item).toMatchObject({ lastError: expect.stringContaining('tame'), attempts: 1 })
  expect(await s.pages.audit(wild)).toMatchObject([
    { action: 'page.publish_failed', changes: { error: expect.stringContaining('tame') } },
  ])
  expect(await s.backend.queue('publish-page').getFailedCount()).toBe(1)
  await s.db.execute(sql`ALTER TABLE website_pages DROP CONSTRAINT tame`)
  await retry(s.db, [item!.id], 'retry')
  await untilPublished(s, wild)
})

test('a page that is locked at its time goes out when it is free again', async () => {
  const s = await open()
  const site = await s.pages.site()
  const [id, other] = [await s.pages.page(site, 500), await s.pages.page(site, 500)]
  await s.dispatcher.tick()
  s.work()
  await s.db
    .transaction(async (tx) => {
      await tx.execute(sql`SELECT FROM website_pages WHERE id = ${id} FOR UPDATE`)
      s.dispatcher.start()
      await untilPublished(s, other)
      await vi.waitFor(async () => expect((await s.pages.items(id))[0]!.lastError).toMatch(/locked the page/), patience)
      tx.rollback()
    })
    .catch((error: Error) => expect(error.message).toMatch(/Rollback/))
  await untilPublished(s, id)
  await untilEnded(s, id, 'done')
  expect(await traces(s, id)).toEqual(once)
})

test('nothing is lost or done twice when the queue is wiped before the time', async () => {
  const s = await open()
  const site = await s.pages.site()
  const ids: number[] = []
  for (let n = 0; n < 20; n++) ids.push(await s.pages.page(site, 1_000 + n * 50))
  s.work()
  s.dispatcher.start()
  await vi.waitFor(
    async () => expect(await s.backend.queue('publish-page').getDelayedCount()).toBeGreaterThan(0),
    patience,
  )
  await s.backend.queue('publish-page').obliterate({ force: true })
  await s.db.execute(sql`UPDATE website_worker.epoch SET queue_id = 'another'`)
  for (const id of ids) await untilPublished(s, id)
  for (const id of ids) expect(await traces(s, id)).toEqual(once)
})

test('two of the same run at once publish once', async () => {
  const s = await open()
  const id = await s.pages.page(await s.pages.site(), -1)
  s.work()
  s.work()
  await s.dispatcher.tick()
  const [item] = await s.pages.items(id)
  await s.bell.ringNow('publish-page', [
    { workId: item!.id, job: 'publish-page', generation: item!.generation, label: 'again', attempts: 0, delayMs: 0 },
  ])
  await untilPublished(s, id)
  await untilEnded(s, id, 'done')
  expect(await traces(s, id)).toEqual(once)
})
