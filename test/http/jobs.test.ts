import { eq, sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { idempotencyKeys, work } from '../../src/db/schema/worker.ts'
import { addSite, countRows, createApi, secrets, withKey, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
let siteId: number
beforeAll(async () => {
  api = await createApi()
})
afterAll(() => api.close())
beforeEach(async () => {
  siteId = (await addSite(api.db)).site.id
  api.rung.length = 0
})

const ask = (headers?: Record<string, string>, body: object = { siteId }) =>
  api.send('POST', '/v1/jobs/sync-products', body, headers)

async function makeItem(changes: Partial<typeof work.$inferInsert> = {}) {
  const { jobId } = (await ask()).json()
  api.rung.length = 0
  const id = Number(jobId)
  if (Object.keys(changes).length > 0) await api.db.update(work).set(changes).where(eq(work.id, id))
  return { id, url: `/v1/jobs/sync-products/${id}` }
}

describe('POST /v1/jobs/{job}', () => {
  it('commits a work item, rings it and says where to follow it', async () => {
    const response = await ask()
    expect(response.statusCode).toBe(202)
    const answer = response.json()
    expect(answer).toEqual({
      jobId: expect.stringMatching(/^\d+$/),
      state: 'waiting',
      href: `/v1/jobs/sync-products/${answer.jobId}`,
    })
    expect(response.headers.location).toBe(answer.href)
    expect(api.rung).toMatchObject([{ workId: Number(answer.jobId), job: 'sync-products', generation: 1 }])
    expect((await api.send('GET', answer.href)).json()).toMatchObject({
      jobId: answer.jobId,
      siteId,
      payload: { siteId },
    })
  })

  it('answers with the unfinished item that is there already, and rings nothing', async () => {
    const first = await ask()
    const second = await ask()
    expect(second.json()).toEqual(first.json())
    expect(api.rung).toHaveLength(1)
  })

  it('holds an item of a paused domain', async () => {
    await api.send('POST', `/v1/sites/${siteId}/pause`, { domain: 'erp' })
    expect((await ask()).json()).toMatchObject({ state: 'held' })
    expect(api.rung).toEqual([])
  })
})

describe('an Idempotency-Key', () => {
  it('gives the same request the same answer, also when the work is long done', async () => {
    const key = { 'idempotency-key': `key-${siteId}` }
    const first = await ask(key)
    expect(first.headers['idempotent-replayed']).toBeUndefined()
    await api.db.update(work).set({ state: 'done', finishedAt: new Date() }).where(eq(work.siteId, siteId))
    const again = await ask(key)
    expect(again.statusCode).toBe(202)
    expect(again.headers['idempotent-replayed']).toBe('true')
    expect(again.headers.location).toBe(first.headers.location)
    expect(again.json()).toEqual(first.json())
    expect(api.rung).toHaveLength(1)
  })

  it('refuses another request', async () => {
    const key = { 'idempotency-key': `other-${siteId}` }
    await ask(key)
    const before = await countRows(api.db)
    const response = await ask(key, { siteId, mode: 'full' })
    expect(response.statusCode).toBe(422)
    expect(response.json()).toMatchObject({ field: 'Idempotency-Key' })
    expect(await countRows(api.db)).toEqual(before)
  })

  it('belongs to the API key it came with', async () => {
    const key = { 'idempotency-key': `shared-${siteId}` }
    await ask(key)
    const response = await ask({ ...key, ...withKey(secrets.enqueue) }, { siteId, mode: 'full' })
    expect(response.statusCode).toBe(202)
  })

  it('makes one item of twenty requests at once', async () => {
    const key = { 'idempotency-key': `at-once-${siteId}` }
    const responses = await Promise.all(Array.from({ length: 20 }, () => ask(key)))
    expect(new Set(responses.map(({ body }) => body)).size).toBe(1)
    expect(responses.filter(({ headers }) => headers['idempotent-replayed'] === undefined)).toHaveLength(1)
    expect(await api.db.select().from(work).where(eq(work.siteId, siteId))).toHaveLength(1)
    expect(api.rung).toHaveLength(1)
  })

  it('is free again after a refusal, and after a day', async () => {
    const key = { 'idempotency-key': `free-${siteId}` }
    expect((await ask(key, { siteId: 2_000_000_000 })).statusCode).toBe(422)
    const first = await ask(key)
    expect(first.statusCode).toBe(202)
    await api.db
      .update(idempotencyKeys)
      .set({ createdAt: sql`now() - interval '25 hours'` })
      .where(eq(idempotencyKeys.key, `free-${siteId}`))
    const later = await ask(key, { siteId, mode: 'full' })
    expect(later.statusCode).toBe(202)
    expect(later.headers['idempotent-replayed']).toBeUndefined()
  })
})

describe('GET /v1/jobs/{job}/{jobId}', () => {
  const past = new Date('2026-01-01T00:00:00Z')
  it.each([
    ['waiting', {}, { failedReason: null, reason: null }],
    [
      'delayed',
      { nextAt: new Date('2100-01-01T00:00:00Z'), attempts: 2, lastError: 'HTTP 503' },
      { nextAt: '2100-01-01T00:00:00.000Z', attempts: 2, failedReason: 'HTTP 503' },
    ],
    ['active', { state: 'running', progress: { page: 3 } }, { progress: { page: 3 }, nextAt: null }],
    [
      'completed',
      { state: 'done', result: { changed: 4 }, finishedAt: past },
      { result: { changed: 4 }, finishedAt: past.toISOString(), nextAt: null },
    ],
    [
      'failed',
      { state: 'failed', lastError: 'gone', reason: 'given up', finishedAt: past },
      { failedReason: 'gone', reason: 'given up' },
    ],
    ['held', { state: 'held', reason: 'brake' }, { reason: 'brake', nextAt: null }],
    ['cancelled', { state: 'cancelled', reason: 'cancelled by x', finishedAt: past }, { reason: 'cancelled by x' }],
  ] as const)('shows an item as %s', async (state, changes, shown) => {
    const { id, url } = await makeItem(changes)
    const response = await api.send('GET', url)
    expect(response.statusCode).toBe(200)
    expect(response.json()).toEqual({
      jobId: String(id),
      job: 'sync-products',
      siteId,
      label: expect.stringContaining('sync-products'),
      payload: { siteId },
      state,
      reason: null,
      progress: null,
      attempts: 0,
      nextAt: state === 'waiting' ? expect.any(String) : null,
      failedReason: null,
      result: null,
      createdAt: expect.any(String),
      finishedAt: null,
      ...('finishedAt' in changes && { finishedAt: past.toISOString() }),
      ...shown,
    })
  })
})

describe('POST …/retry and …/cancel', () => {
  it.each([
    ['failed', { state: 'failed', finishedAt: new Date(), attempts: 2 }],
    ['cancelled', { state: 'cancelled', finishedAt: new Date() }],
    ['completed', { state: 'done', finishedAt: new Date() }],
    ['held', { state: 'held', reason: 'brake' }],
    ['delayed', { nextAt: new Date('2100-01-01T00:00:00Z') }],
  ] as const)('owes a %s item again and rings its new generation', async (_, changes) => {
    const { id, url } = await makeItem(changes)
    const response = await api.send('POST', `${url}/retry`)
    expect(response.statusCode, response.body).toBe(200)
    expect(response.json()).toMatchObject({ jobId: String(id), state: 'waiting', reason: null, finishedAt: null })
    expect(api.rung).toMatchObject([{ workId: id, generation: 2 }])
  })

  it.each([
    ['waiting', {}, 'waits for its turn already'],
    ['active', { state: 'running' }, 'is running right now'],
    ['paused', { state: 'held', reason: 'paused' }, 'resume'],
    ['switched off', { state: 'held', reason: 'domain off' }, 'enable'],
  ] as const)('does not retry an item that is %s, and says why', async (_, changes, words) => {
    const { url } = await makeItem(changes)
    const response = await api.send('POST', `${url}/retry`)
    expect(response.statusCode).toBe(409)
    expect(response.json().detail).toContain(words)
    expect(api.rung).toEqual([])
  })

  it('does not retry an item while another does the same work', async () => {
    const { url } = await makeItem({ state: 'failed', finishedAt: new Date() })
    await makeItem()
    const response = await api.send('POST', `${url}/retry`)
    expect(response.statusCode).toBe(409)
    expect(response.json().detail).toContain('same work')
  })

  it.each([
    ['waiting', {}],
    ['active', { state: 'running' }],
    ['held', { state: 'held', reason: 'paused' }],
  ] as const)('cancels an item that is %s, noting who did', async (_, changes) => {
    const { url } = await makeItem(changes)
    const response = await api.send('POST', `${url}/cancel`, undefined, withKey(secrets.ops))
    expect(response.statusCode).toBe(200)
    expect(response.json()).toMatchObject({ state: 'cancelled', reason: 'cancelled by on-call' })
  })

  it.each([
    ['done', 'completed'],
    ['failed', 'failed'],
    ['cancelled', 'cancelled'],
  ] as const)('does not cancel an item that is %s', async (state, word) => {
    const { url } = await makeItem({ state, finishedAt: new Date() })
    const response = await api.send('POST', `${url}/cancel`)
    expect(response.statusCode).toBe(409)
    expect(response.json().detail).toContain(word)
  })

  it('take an empty object, an empty body and a JSON type without a body', async () => {
    for (const options of [{ payload: '{}' }, { payload: '' }, {}]) {
      const { url } = await makeItem()
      const headers = { ...withKey(secrets.ops), 'content-type': 'application/json' }
      const { statusCode } = await api.app.inject({ method: 'POST', url: `${url}/cancel`, headers, ...options })
      expect(statusCode).toBe(200)
    }
  })
})
