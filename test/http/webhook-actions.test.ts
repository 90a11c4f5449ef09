import { eq, sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { websiteWebhooks } from '../../src/db/schema/integrations.ts'
import { askedAgain, webhookHealth, work } from '../../src/db/schema/worker.ts'
import { cancelPending } from '../../src/http/webhook-actions.ts'
import { addSite, createApi, secrets, withKey, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
let siteId: number
let webhookId: number
let otherId: number
beforeAll(async () => {
  api = await createApi()
})
afterAll(() => api.close())
beforeEach(async () => {
  const { site, webhooks } = await addSite(api.db, ['order.created', 'order.updated'])
  siteId = site.id
  webhookId = webhooks[0]!.id
  otherId = webhooks[1]!.id
  await api.db.delete(work)
  api.rung.length = 0
  api.state.bellReady = true
})

const since = '2026-03-01T01:00:00+01:00'
const until = '2026-03-02T00:00:00Z'
const replay = (body: unknown = { since }, id = webhookId) => api.send('POST', `/v1/webhooks/${id}/replay`, body)
const itemOf = async (jobId: string) =>
  (
    await api.db
      .select()
      .from(work)
      .where(eq(work.id, Number(jobId)))
  )[0]!

describe('POST /v1/webhooks/{id}/replay', () => {
  it('owes a replay of the window, rings it, and says where to follow it', async () => {
    const response = await replay({ since, until, status: 'cancelled' })
    expect(response.statusCode, response.body).toBe(202)
    const { jobId, href, ...rest } = response.json()
    expect(rest).toEqual({ state: 'waiting' })
    expect(href).toBe(`/v1/jobs/replay-webhook/${jobId}`)
    expect(response.headers.location).toBe(href)
    expect(await itemOf(jobId)).toMatchObject({
      siteId,
      payload: { webhookId, since: '2026-03-01T00:00:00.000Z', until: '2026-03-02T00:00:00.000Z', status: 'cancelled' },
      label: `replay of webhook ${webhookId} (cancelled)`,
      rungAt: expect.any(Date),
    })
    expect(api.rung).toMatchObject([{ workId: Number(jobId), job: 'replay-webhook', generation: 1, delayMs: 0 }])
    const job = await api.send('GET', href)
    expect(job.json()).toMatchObject({ jobId, state: 'waiting', progress: null, result: null })
  })

  it('takes failed ones until now by default', async () => {
    const before = Date.now()
    const { payload } = await itemOf((await replay()).json().jobId)
    expect(payload).toMatchObject({ status: 'failed', since: '2026-03-01T00:00:00.000Z' })
    const end = Date.parse((payload as { until: string }).until)
    expect(end).toBeGreaterThanOrEqual(before)
    expect(end).toBeLessThanOrEqual(Date.now() + 1)
  })

  it('is one job however often it is asked for before it is done, and another for another window', async () => {
    const first = (await replay({ since, until })).json()
    // The same window, spelled otherwise.
    const again = await Promise.all(
      Array.from({ length: 5 }, () => replay({ since: '2026-03-01T00:00:00.000Z', until, status: 'failed' })),
    )
    for (const response of again) expect(response.json()).toEqual(first)
    const open = (await replay()).json()
    expect((await replay()).json()).toEqual(open)
    const ids = [first, open]
    for (const other of [
      { since: until },
      { since, until: '2026-03-03T00:00:00Z' },
      { since, until, status: 'held' },
    ]) {
      ids.push((await replay(other)).json())
    }
    ids.push((await replay({ since, until }, otherId)).json())
    expect(new Set(ids.map(({ jobId }) => jobId)).size).toBe(6)
    expect(api.rung).toHaveLength(6)
    // Else it would run once more after its end, and send everything again.
    expect(await api.db.select().from(askedAgain)).toEqual([])

    await api.db.update(work).set({ state: 'done', finishedAt: new Date() })
    expect((await replay({ since, until })).json().jobId).not.toBe(first.jobId)
  })

  it('is left to the dispatcher while the queue is away', async () => {
    api.state.bellReady = false
    const { jobId } = (await replay()).json()
    expect(await itemOf(jobId)).toMatchObject({ state: 'owed', rungAt: null })
    expect(api.rung).toEqual([])
  })

  it('waits while its site is paused', async () => {
    await api.send('POST', `/v1/sites/${siteId}/pause`, { domain: 'webhooks' })
    const response = await replay()
    expect(response.json()).toMatchObject({ state: 'held' })
    expect(api.rung).toEqual([])
  })

  it.each([
    ['switched off', false, {}],
    ['switched off', null, {}],
    ['disabled: answered 410 Gone', false, { disabledAt: new Date(), disabledReason: 'answered 410 Gone' }],
  ] as const)('is refused for a webhook that is %s', async (why, isActive, health) => {
    await api.db.update(websiteWebhooks).set({ isActive }).where(eq(websiteWebhooks.id, webhookId))
    await api.db.insert(webhookHealth).values({ webhookId, ...health })
    for (const status of ['held', 'failed']) {
      const response = await replay({ since, status })
      expect(response.statusCode).toBe(409)
      expect(response.json().detail).toBe(
        `The webhook is ${why}. Switch it on first (website_webhooks.is_active), then replay`,
      )
    }
    expect(await api.db.select().from(work)).toEqual([])
  })

  it.each([
    [{}, 'since'],
    [{ since: until, until: '2026-03-01T00:00:00Z' }, 'since'],
    [{ since: '9999-01-01T00:00:00Z' }, 'since'],
    [{ since: '2026-03-01' }, 'since'],
    [{ since: '2026-03-01T00:00:00' }, 'since'],
    [{ since, until: 'now' }, 'until'],
    [{ since, status: 'pending' }, 'status'],
    [{ since, status: ['failed'] }, 'status'],
    [{ since, from: 1 }, 'from'],
    [[], 'body'],
  ])('refuses %j', async (body, field) => {
    const response = await replay(body)
    expect(response.statusCode, response.body).toBe(422)
    expect(response.json()).toMatchObject({ field })
  })

  it.each([
    ['0000-01-01T00:00:00+05:00', '9999-12-31T23:59:59-05:00'],
    ['0001-01-01T00:00:00Z', '9999-12-31T23:59:59.999999Z'],
  ])('takes a window from %s to %s for everything', async (from, to) => {
    const { jobId } = (await replay({ since: from, until: to })).json()
    expect((await itemOf(jobId)).payload).toMatchObject({
      since: '1970-01-01T00:00:00.000Z',
      until: '9999-12-31T23:59:59.999Z',
    })
  })
})

describe('POST /v1/webhooks/{id}/ping', () => {
  it('owes one test message, also for a webhook that is off', async () => {
    await api.db.update(websiteWebhooks).set({ isActive: false }).where(eq(websiteWebhooks.id, webhookId))
    const response = await api.send('POST', `/v1/webhooks/${webhookId}/ping`)
    expect(response.statusCode, response.body).toBe(202)
    const { jobId, href } = response.json()
    expect(href).toBe(`/v1/jobs/ping-webhook/${jobId}`)
    expect(response.headers.location).toBe(href)
    expect(await itemOf(jobId)).toMatchObject({ siteId, payload: { webhookId }, state: 'owed' })
    expect((await api.send('POST', `/v1/webhooks/${webhookId}/ping`, {})).json().jobId).toBe(jobId)
    expect(api.rung).toMatchObject([{ workId: Number(jobId), job: 'ping-webhook' }])
    expect(await api.db.select().from(askedAgain)).toEqual([])
  })
})

describe('POST /v1/webhooks/{id}/cancel-pending', () => {
  /** Deliveries of a webhook, in some state. */
  async function deliveries(n: number, state: string, of = webhookId): Promise<void> {
    await api.db.execute(sql`
      WITH ledger AS (
        INSERT INTO website_webhook_deliveries (webhook_id, event_id, attempts)
        SELECT ${of}, gen_random_uuid()::text, 0 FROM generate_series(1, ${n}::int) RETURNING id)
      INSERT INTO website_worker.work (job, key, site_id, payload, state, next_at, finished_at)
      SELECT 'deliver-webhook', id::text, ${siteId}, jsonb_build_object('deliveryId', id), ${state}, now() + interval '1 day',
        CASE WHEN ${state} NOT IN ('owed', 'held') THEN now() END FROM ledger`)
  }
  const counts = async () => {
    const { rows } = await api.db.execute(sql`
      SELECT d.webhook_id, k.state, count(*)::int AS n FROM website_worker.work k
      JOIN website_webhook_deliveries d ON d.id::text = k.key WHERE k.job = 'deliver-webhook' GROUP BY 1, 2`)
    return Object.fromEntries(
      rows.map((row) => [`${row.webhook_id === webhookId ? 'mine' : 'other'} ${row.state}`, row.n]),
    )
  }

  it('ends what is pending or held of this webhook, its replays too, and nothing else', async () => {
    await deliveries(3, 'owed')
    await deliveries(2, 'held')
    await deliveries(4, 'done')
    await deliveries(1, 'failed')
    await deliveries(5, 'owed', otherId)
    const mine = (await replay()).json()
    const others = (await replay({ since }, otherId)).json()
    const response = await api.send('POST', `/v1/webhooks/${webhookId}/cancel-pending`)
    expect(response.statusCode, response.body).toBe(200)
    expect(response.json()).toEqual({ cancelled: 5, more: false })
    expect(await counts()).toEqual({ 'mine cancelled': 5, 'mine done': 4, 'mine failed': 1, 'other owed': 5 })
    expect(await itemOf(mine.jobId)).toMatchObject({ state: 'cancelled', reason: 'cancelled by both' })
    expect(await itemOf(others.jobId)).toMatchObject({ state: 'owed' })
    expect((await api.send('POST', `/v1/webhooks/${webhookId}/cancel-pending`)).json()).toEqual({
      cancelled: 0,
      more: false,
    })
  })

  it('stops when its time is over, says so, and comes to an end when asked again', async () => {
    await deliveries(2_500, 'owed', otherId)
    await deliveries(5_000, 'owed')
    let cancelled = 0
    let calls = 0
    for (let more = true; more; calls++) {
      const answer = await cancelPending(api, webhookId, 'a test', calls === 0 ? 0 : 60_000)
      expect(answer.more).toBe(calls === 0)
      cancelled += answer.cancelled
      more = answer.more
    }
    expect({ cancelled, calls }).toEqual({ cancelled: 5_000, calls: 2 })
    expect(await counts()).toEqual({ 'mine cancelled': 5_000, 'other owed': 2_500 })
  })

  it('is not confused by items whose key is no id', async () => {
    await deliveries(1, 'owed')
    await api.db.execute(sql`
      INSERT INTO website_worker.work (job, key, payload) VALUES ('deliver-webhook', 'x', '{}'), ('deliver-webhook', '99999999999', '{}'),
        ('deliver-webhook', '9999999999', '{}')`)
    expect((await api.send('POST', `/v1/webhooks/${webhookId}/cancel-pending`)).json()).toEqual({
      cancelled: 1,
      more: false,
    })
  })
})

describe.each(['replay', 'ping', 'cancel-pending'])('POST /v1/webhooks/{id}/%s', (action) => {
  const body = action === 'replay' ? { since } : undefined

  it('needs the scope ops and a webhook that is there', async () => {
    const denied = await api.send('POST', `/v1/webhooks/${webhookId}/${action}`, body, withKey(secrets.enqueue))
    expect(denied.statusCode).toBe(403)
    for (const id of ['2147483647', '0', 'x', '2147483648']) {
      expect((await api.send('POST', `/v1/webhooks/${id}/${action}`, body)).statusCode).toBe(404)
    }
    const extra = await api.send('POST', `/v1/webhooks/${webhookId}/${action}`, { ...body, wait: true })
    expect(extra.statusCode).toBe(422)
    expect(extra.json()).toMatchObject({ field: 'wait' })
    expect(await api.db.select().from(work)).toEqual([])
  })
})
