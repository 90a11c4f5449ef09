import { eq, sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { events, laneLimits, work } from '../../src/db/schema/worker.ts'
import { addSite, countRows, createApi, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
beforeAll(async () => {
  api = await createApi()
})
afterAll(() => api.close())
beforeEach(() => {
  api.rung.length = 0
  api.state.bellReady = true
})

describe('POST /v1/events', () => {
  it('commits the event and a delivery per matching webhook, then rings them', async () => {
    const { site, webhooks } = await addSite(api.db, ['order.created', 'order.created', 'order.updated'])
    const response = await api.send('POST', '/v1/events', { siteId: site.id, event: 'order.created', data: { a: 1 } })
    expect(response.statusCode).toBe(202)
    const { eventId, deliveries } = response.json()
    expect(eventId).toMatch(/^evt_/)
    expect(deliveries).toEqual(
      webhooks.slice(0, 2).map(({ id }) => ({ id: expect.any(Number), webhookId: id, status: 'pending' })),
    )
    expect(response.headers['idempotent-replayed']).toBeUndefined()
    const items = await api.db.select().from(work).where(eq(work.siteId, site.id)).orderBy(work.id)
    expect(items.map(({ id, key, rungAt }) => ({ id, key, rung: rungAt !== null }))).toEqual(
      api.rung.map(({ workId }, index) => ({ id: workId, key: String(deliveries[index].id), rung: true })),
    )
    expect(api.rung[0]).toMatchObject({
      job: 'deliver-webhook',
      generation: 1,
      label: 'order.created → shop.example',
      attempts: 0,
    })
  })

  it('asks the lane of a limited origin whether it is the turn of what came', async () => {
    const limit = { lane: 'https://shop.example', maxConcurrent: 1 }
    await api.db.insert(laneLimits).values(limit)
    const { site } = await addSite(api.db, ['order.created', 'order.created'])
    const response = await api.send('POST', '/v1/events', { siteId: site.id, event: 'order.created', data: 1 })
    await api.db.delete(laneLimits)
    expect(response.json().deliveries).toMatchObject([{ status: 'pending' }, { status: 'pending' }])
    expect([api.rung, api.pulled]).toEqual([[], [limit.lane]])
  })

  it('leaves the ringing to the dispatcher while the queue is away', async () => {
    api.state.bellReady = false
    const { site } = await addSite(api.db, ['order.created'])
    const response = await api.send('POST', '/v1/events', { siteId: site.id, event: 'order.created', data: null })
    expect(response.statusCode).toBe(202)
    expect(api.rung).toEqual([])
    const [item] = await api.db.select().from(work).where(eq(work.siteId, site.id))
    expect(item).toMatchObject({ state: 'owed', rungAt: null })
  })

  it('answers the same id and content as before, and another content with 409', async () => {
    const { site } = await addSite(api.db, ['order.created'])
    const event = { siteId: site.id, event: 'order.created', data: { b: [1, 'x'] }, id: 'order-1' }
    const first = await api.send('POST', '/v1/events', event)
    const again = await api.send('POST', '/v1/events', event)
    expect(again.statusCode).toBe(202)
    expect(again.json()).toEqual(first.json())
    expect(again.headers['idempotent-replayed']).toBe('true')
    expect(api.rung).toHaveLength(1)
    const before = await countRows(api.db)
    const other = await api.send('POST', '/v1/events', { ...event, data: { b: 2 } })
    expect(other.statusCode).toBe(409)
    expect(other.json()).toMatchObject({ status: 409, field: 'id' })
    expect(await countRows(api.db)).toEqual(before)
  })

  it('makes one event of twenty requests at once with the same id', async () => {
    const { site } = await addSite(api.db, ['order.created'])
    const event = { siteId: site.id, event: 'order.created', data: 1, id: 'twenty' }
    const responses = await Promise.all(Array.from({ length: 20 }, () => api.send('POST', '/v1/events', event)))
    expect(responses.map(({ statusCode }) => statusCode)).toEqual(Array(20).fill(202))
    expect(new Set(responses.map(({ body }) => body)).size).toBe(1)
    expect(responses.filter(({ headers }) => headers['idempotent-replayed'] === undefined)).toHaveLength(1)
    expect(await api.db.select().from(events).where(eq(events.siteId, site.id))).toHaveLength(1)
    expect(await api.db.select().from(work).where(eq(work.siteId, site.id))).toHaveLength(1)
    expect(api.rung).toHaveLength(1)
  })

  it('judges each of many requests at once by itself', async () => {
    const { site } = await addSite(api.db, ['order.created'])
    const good = { siteId: site.id, event: 'order.created', data: 1 }
    await api.send('POST', '/v1/events', { ...good, id: 'known' })
    api.rung.length = 0
    const bodies = Array.from({ length: 200 }, (_, n) => {
      if (n % 20 === 3) return { body: { ...good, data: 'x'.repeat(262_144) }, status: 413 }
      if (n % 20 === 5) return { body: { ...good, siteId: 2_000_000_000 }, status: 422 }
      if (n % 20 === 7) return { body: { ...good, id: 'known', data: n }, status: 409 }
      return { body: { ...good, id: `n-${n}`, data: n }, status: 202, eventId: `n-${n}` }
    })
    const responses = await Promise.all(bodies.map(({ body }) => api.send('POST', '/v1/events', body)))
    expect(responses.map((response) => [response.statusCode, response.json().eventId])).toEqual(
      bodies.map(({ status, eventId }) => [status, eventId]),
    )
    expect(api.rung).toHaveLength(170)
    expect(await api.db.select().from(events).where(eq(events.siteId, site.id))).toHaveLength(171)
  })

  it('keeps data with NUL escapes, lone surrogates and __proto__ as it came', async () => {
    const { site } = await addSite(api.db, ['order.created'])
    const data = String.raw`{"a":"\u0000","b":"\ud800","__proto__":{"polluted":true},"constructor":{"prototype":{"x":1}},"ü":"😀"}`
    const response = await api.send(
      'POST',
      '/v1/events',
      `{"siteId":${site.id},"event":"order.created","data":${data}}`,
    )
    expect(response.statusCode).toBe(202)
    const [row] = await api.db.select().from(events).where(eq(events.siteId, site.id))
    expect(row!.body).toContain(`"data":${data}}`)
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
  })

  it('holds the deliveries of a paused site', async () => {
    const { site } = await addSite(api.db, ['order.created'])
    await api.send('POST', `/v1/sites/${site.id}/pause`, { domain: 'webhooks' })
    const response = await api.send('POST', '/v1/events', { siteId: site.id, event: 'order.created', data: 1 })
    expect(response.json().deliveries).toMatchObject([{ status: 'held' }])
    expect(api.rung).toEqual([])
  })
})

describe('POST /v1/events/batch', () => {
  it('accepts the valid ones in one go and says of each other what is wrong, in order', async () => {
    const { site } = await addSite(api.db, ['order.created'])
    const good = { siteId: site.id, event: 'order.created', data: { n: 1 } }
    await api.send('POST', '/v1/events', { ...good, id: 'there' })
    const before = await countRows(api.db)
    const response = await api.send('POST', '/v1/events/batch', {
      events: [
        good,
        { ...good, siteId: 2_000_000_000 },
        { ...good, event: 'no.such' },
        { ...good, id: 'there' },
        { ...good, id: 'there', data: 2 },
        { ...good, data: 'x'.repeat(300_000) },
        { ...good, id: 'twin' },
        { ...good, id: 'twin' },
        7,
        { ...good, data: 'y'.repeat(262_100) },
        { ...good, extra: 1 },
      ],
    })
    expect(response.statusCode).toBe(200)
    const { results } = response.json()
    expect(
      results.map((result: { status: number; outcome: string; problem?: { field?: string } }) => [
        result.status,
        result.outcome,
        result.problem?.field,
      ]),
    ).toEqual([
      [202, 'accepted', undefined],
      [422, 'invalid', 'siteId'],
      [422, 'invalid', 'event'],
      [202, 'replayed', undefined],
      [409, 'conflict', 'id'],
      [413, 'invalid', 'data'],
      [202, 'accepted', undefined],
      [202, 'replayed', undefined],
      [422, 'invalid', 'event'],
      [413, 'invalid', 'data'],
      [422, 'invalid', 'extra'],
    ])
    expect(results[0].deliveries).toHaveLength(1)
    expect(results[5].problem).toMatchObject({ title: 'Payload Too Large', status: 413, errors: [{ field: 'data' }] })
    const after = await countRows(api.db)
    expect(after.events! - before.events!).toBe(2)
    expect(after.work! - before.work!).toBe(2)
  })

  it('takes a thousand events and 8 MiB', async () => {
    const { site } = await addSite(api.db, ['order.created'])
    const batch = (count: number) => ({
      events: Array.from({ length: count }, () => ({
        siteId: site.id,
        event: 'order.created',
        data: 'z'.repeat(8_000),
      })),
    })
    const response = await api.send('POST', '/v1/events/batch', batch(1_000))
    expect(response.statusCode).toBe(200)
    expect(new Set(response.json().results.map(({ status }: { status: number }) => status))).toEqual(new Set([202]))
    const { rows } = await api.db.execute(
      sql`SELECT count(*)::int AS n FROM website_worker.work WHERE site_id = ${site.id}`,
    )
    expect(rows).toEqual([{ n: 1_000 }])
    const { statusCode } = await api.send('POST', '/v1/events/batch', batch(1_001))
    expect(statusCode).toBe(422)
  })
})
