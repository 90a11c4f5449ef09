import { eq, sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { websiteWebhookDeliveries, websiteWebhooks } from '../../src/db/schema/integrations.ts'
import { events, webhookAttempts, webhookHealth, work } from '../../src/db/schema/worker.ts'
import { addSite, createApi, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
let siteId: number
let webhookId: number
beforeAll(async () => {
  api = await createApi()
})
afterAll(() => api.close())
beforeEach(async () => {
  const { site, webhooks } = await addSite(api.db, ['order.created', 'order.updated'])
  siteId = site.id
  webhookId = webhooks[0]!.id
})

const past = new Date('2026-01-02T03:04:05.678Z')

/** A delivery whose work item and ledger row are as given; `null`: the work item is no longer kept. */
async function makeDelivery(
  item: Partial<typeof work.$inferInsert> | null = {},
  row: Partial<typeof websiteWebhookDeliveries.$inferInsert> = {},
  event = 'order.created',
): Promise<number> {
  const response = await api.send('POST', '/v1/events', { siteId, event, data: { n: 1 } })
  const [{ id }] = response.json().deliveries
  const key = eq(work.key, String(id))
  if (item === null) await api.db.delete(work).where(key)
  else if (Object.keys(item).length > 0) await api.db.update(work).set(item).where(key)
  if (Object.keys(row).length > 0)
    await api.db.update(websiteWebhookDeliveries).set(row).where(eq(websiteWebhookDeliveries.id, id))
  api.rung.length = 0
  return id
}

const states = {
  pending: () => makeDelivery(),
  'pending, later': () => makeDelivery({ nextAt: new Date('2100-01-01T00:00:00Z') }, { attempts: 3, statusCode: 503 }),
  'pending again': () => makeDelivery({}, { deliveredAt: past, statusCode: 200 }),
  delivered: () => makeDelivery({ state: 'done', finishedAt: past }, { deliveredAt: past, statusCode: 200 }),
  'delivered long ago': () => makeDelivery(null, { deliveredAt: past, statusCode: 200 }),
  'delivered, sent again in vain': () => makeDelivery({ state: 'failed', finishedAt: past }, { deliveredAt: past }),
  failed: () => makeDelivery({ state: 'failed', finishedAt: past }, { statusCode: 500, errorMessage: 'HTTP 500' }),
  'failed long ago': () => makeDelivery(null, { statusCode: 500 }),
  held: () => makeDelivery({ state: 'held', reason: 'webhook disabled' }),
  cancelled: () => makeDelivery({ state: 'cancelled', reason: 'cancelled by x', finishedAt: past }),
}
type State = keyof typeof states

const statusOf = (state: string) => /^\w+/.exec(state)![0]

async function pageThrough(path: string, limit?: number): Promise<{ ids: number[]; pages: number }> {
  const ids: number[] = []
  let cursor: string | null = ''
  let pages = 0
  while (cursor !== null) {
    const query = [...(limit ? [`limit=${limit}`] : []), ...(cursor ? [`cursor=${cursor}`] : [])].join('&')
    const response = await api.send('GET', `${path}${path.includes('?') ? '&' : '?'}${query}`)
    expect(response.statusCode, response.body).toBe(200)
    const page = response.json()
    ids.push(...page.items.map(({ id }: { id: number }) => id))
    cursor = page.nextCursor
    pages++
  }
  return { ids, pages }
}

describe('the status of a delivery', () => {
  it.each(Object.keys(states) as State[])('is told alone and in its filter: %s', async (state) => {
    const id = await states[state]()
    const { status } = (await api.send('GET', `/v1/deliveries/${id}`)).json()
    expect(status).toBe(statusOf(state))
    for (const filter of ['pending', 'delivered', 'failed', 'held', 'cancelled']) {
      const { items } = (await api.send('GET', `/v1/webhooks/${webhookId}/deliveries?status=${filter}`)).json()
      expect(
        items.map((item: { id: number }) => item.id),
        filter,
      ).toEqual(filter === status ? [id] : [])
    }
  })
})

describe('GET /v1/deliveries/{id}', () => {
  it('tells everything about a delivery, and each of its requests', async () => {
    const id = await makeDelivery(
      { nextAt: new Date('2100-01-01T00:00:00Z') },
      { attempts: 2, statusCode: 503, errorMessage: 'HTTP 503', responseBody: 'busy', createdAt: past },
    )
    await api.db.insert(webhookAttempts).values([
      { deliveryId: id, attempt: 1, at: past, durationMs: 1_500, error: 'timeout', trigger: 'event' },
      { deliveryId: id, attempt: 2, at: past, statusCode: 503, durationMs: 12, error: 'HTTP 503', trigger: 'schedule' },
    ])
    const [item] = await api.db
      .select()
      .from(work)
      .where(eq(work.key, String(id)))
    const response = await api.send('GET', `/v1/deliveries/${id}`)
    expect(response.json()).toEqual({
      id,
      webhookId,
      siteId,
      eventId: expect.stringMatching(/^evt_/),
      event: 'order.created',
      status: 'pending',
      reason: null,
      statusCode: 503,
      attempts: 2,
      nextAt: '2100-01-01T00:00:00.000Z',
      error: 'HTTP 503',
      responseBody: 'busy',
      createdAt: past.toISOString(),
      deliveredAt: null,
      jobId: String(item!.id),
      attemptLog: [
        { attempt: 1, at: past.toISOString(), statusCode: null, durationMs: 1_500, error: 'timeout', trigger: 'event' },
        { attempt: 2, at: past.toISOString(), statusCode: 503, durationMs: 12, error: 'HTTP 503', trigger: 'schedule' },
      ],
    })
    const shown = await api.send('GET', `/v1/jobs/deliver-webhook/${item!.id}`)
    expect(shown.json()).toMatchObject({ state: 'delayed', payload: { deliveryId: id } })
  })

  it("shows a row of the main app's own from before", async () => {
    const [row] = await api.db
      .insert(websiteWebhookDeliveries)
      .values({ webhookId, eventId: null, statusCode: 404, attempts: null })
      .returning()
    const response = await api.send('GET', `/v1/deliveries/${row!.id}`)
    expect(response.json()).toMatchObject({
      status: 'failed',
      event: 'order.created',
      eventId: null,
      attempts: 0,
      jobId: null,
    })
  })
})

describe('the pages of a ledger', () => {
  it('hold every delivery once, newest first, of a webhook and of a site', async () => {
    const ids: number[] = []
    for (let n = 0; n < 11; n++) ids.push(await makeDelivery({}, {}, n % 3 === 0 ? 'order.updated' : 'order.created'))
    ids.reverse()
    expect(await pageThrough(`/v1/sites/${siteId}/deliveries`, 3)).toEqual({ ids, pages: 4 })
    expect(await pageThrough(`/v1/sites/${siteId}/deliveries`, 11)).toEqual({ ids, pages: 1 })
    expect(await pageThrough(`/v1/sites/${siteId}/deliveries`)).toEqual({ ids, pages: 1 })
    const ofWebhook = ids.filter((_, index) => (10 - index) % 3 !== 0)
    expect(await pageThrough(`/v1/webhooks/${webhookId}/deliveries`, 2)).toEqual({ ids: ofWebhook, pages: 4 })
    expect(await pageThrough(`/v1/sites/${siteId}/deliveries?status=pending`, 2)).toEqual({ ids, pages: 6 })
  })

  it('are empty for a site without webhooks', async () => {
    const { site } = await addSite(api.db)
    for (const query of ['', '?status=failed']) {
      const { body } = await api.send('GET', `/v1/sites/${site.id}/deliveries${query}`)
      expect(JSON.parse(body)).toEqual({ items: [], nextCursor: null })
    }
  })

  it('find a rare state far back in a long ledger, a bounded walk a page', async () => {
    const rare = await states.failed()
    const other = await makeDelivery({ state: 'failed', finishedAt: past }, {}, 'order.updated')
    await api.db.execute(sql`
      INSERT INTO public.website_webhook_deliveries (webhook_id, event_id, attempts, delivered_at)
      SELECT ${webhookId}, 'bulk-' || n, 1, now() FROM generate_series(1, 25000) n`)
    expect(await pageThrough(`/v1/webhooks/${webhookId}/deliveries?status=failed`)).toEqual({ ids: [rare], pages: 3 })
    const { ids, pages } = await pageThrough(`/v1/sites/${siteId}/deliveries?status=failed`)
    expect(ids).toEqual([other, rare])
    expect(pages).toBeGreaterThan(3)
  })
})

describe('POST /v1/deliveries/{id}/retry and /cancel', () => {
  it.each(['failed', 'cancelled', 'held', 'delivered', 'pending, later', 'delivered, sent again in vain'] as const)(
    'sends a delivery again that is %s',
    async (state) => {
      const id = await states[state]()
      const response = await api.send('POST', `/v1/deliveries/${id}/retry`)
      expect(response.statusCode, response.body).toBe(200)
      expect(response.json()).toMatchObject({ id, status: 'pending', attemptLog: [] })
      expect(api.rung).toMatchObject([{ job: 'deliver-webhook', generation: 2 }])
    },
  )

  it.each(['failed long ago', 'delivered long ago'] as const)(
    'makes a new work item for one that %s',
    async (state) => {
      const id = await states[state]()
      const response = await api.send('POST', `/v1/deliveries/${id}/retry`)
      expect(response.json()).toMatchObject({ id, status: 'pending', jobId: expect.any(String) })
      const [item] = await api.db
        .select()
        .from(work)
        .where(eq(work.key, String(id)))
      expect(item).toMatchObject({ state: 'owed', trigger: 'retry', siteId, payload: { deliveryId: id } })
      expect(api.rung).toMatchObject([{ workId: item!.id }])
    },
  )

  it("refuses what can't be sent again, with the reason", async () => {
    const pending = await states.pending()
    const failed = await states.failed()
    await api.db.update(events).set({ body: null }).where(eq(events.siteId, siteId))
    for (const [id, words] of [
      [pending, 'waits for its turn'],
      [failed, 'body is no longer kept'],
    ] as const) {
      const response = await api.send('POST', `/v1/deliveries/${id}/retry`)
      expect(response.statusCode).toBe(409)
      expect(response.json().detail).toContain(words)
    }
    expect(api.rung).toEqual([])
  })

  it.each(['pending', 'pending, later', 'held'] as const)('cancels one that is %s', async (state) => {
    const id = await states[state]()
    const response = await api.send('POST', `/v1/deliveries/${id}/cancel`)
    expect(response.json()).toMatchObject({ id, status: 'cancelled', reason: 'cancelled by both' })
  })

  it.each(['delivered', 'failed', 'failed long ago', 'cancelled'] as const)(
    'does not cancel one that is %s',
    async (state) => {
      const id = await states[state]()
      const response = await api.send('POST', `/v1/deliveries/${id}/cancel`)
      expect(response.statusCode).toBe(409)
      expect(response.json().detail).toContain('already')
    },
  )
})

describe('GET /v1/webhooks/{id}', () => {
  it.each([
    ['healthy', true, undefined],
    ['healthy', true, { lastSuccessAt: past }],
    ['failing', true, { failingSince: past, lastFailureAt: past }],
    ['disabled', false, { failingSince: past, disabledAt: past, disabledReason: 'five days of failures' }],
    ['off', false, undefined],
    ['off', null, { failingSince: past }],
  ] as const)('shows it as %s when active is %s', async (health, isActive, known) => {
    await api.db.update(websiteWebhooks).set({ isActive }).where(eq(websiteWebhooks.id, webhookId))
    if (known) await api.db.insert(webhookHealth).values({ webhookId, ...known })
    const response = await api.send('GET', `/v1/webhooks/${webhookId}`)
    const instants = Object.fromEntries(
      Object.entries(known ?? {}).map(([name, value]) => [name, value instanceof Date ? value.toISOString() : value]),
    )
    expect(response.json()).toEqual({
      id: webhookId,
      siteId,
      name: 'order.created',
      event: 'order.created',
      targetUrl: 'https://shop.example/hook',
      active: isActive === true,
      health,
      disabledReason: null,
      disabledAt: null,
      failingSince: null,
      lastSuccessAt: null,
      lastFailureAt: null,
      ...instants,
    })
  })

  it('shows one that was switched on again as if nothing had been before', async () => {
    const known = { failingSince: past, lastFailureAt: past, disabledAt: past, disabledReason: 'five days of failures' }
    await api.db.insert(webhookHealth).values({ webhookId, ...known })
    expect((await api.send('GET', `/v1/webhooks/${webhookId}`)).json()).toMatchObject({
      active: true,
      health: 'healthy',
      failingSince: null,
      disabledAt: null,
      disabledReason: null,
      lastFailureAt: past.toISOString(),
    })
  })

  it.each([
    ['https://user:pass@shop.example:8443/a/b?token=1#x', 'https://shop.example:8443/a/b'],
    ['http://shop.example', 'http://shop.example'],
    ['https://a@b@shop.example/x@y', 'https://shop.example/x@y'],
    ['https:\\\\user@shop.example', 'https:\\\\shop.example'],
    ['not a url?secret', 'not a url'],
    ['', ''],
  ])('shows the target %s as %s', async (targetUrl, shown) => {
    await api.db.update(websiteWebhooks).set({ targetUrl }).where(eq(websiteWebhooks.id, webhookId))
    const { body } = await api.send('GET', `/v1/webhooks/${webhookId}`)
    expect(JSON.parse(body).targetUrl).toBe(shown)
    expect(body).not.toContain('whsec')
  })
})
