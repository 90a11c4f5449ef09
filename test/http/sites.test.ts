import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { websiteSites } from '../../src/db/schema/sites.ts'
import { addSite, createApi, type ApiFixture } from './api-fixture.ts'

let api: ApiFixture
beforeAll(async () => {
  api = await createApi()
})
afterAll(() => api.close())

const switchSite = (id: number, action: 'pause' | 'resume', domain = 'webhooks') =>
  api.send('POST', `/v1/sites/${id}/${action}`, { domain })
const statuses = async (id: number) => {
  const { items } = (await api.send('GET', `/v1/sites/${id}/deliveries`)).json()
  return items.map(({ status, reason }: { status: string; reason: string | null }) => [status, reason])
}

it('holds what a site owes and what comes in, of one domain alone, until it is resumed', async () => {
  const { site } = await addSite(api.db, ['order.created'])
  const { site: other } = await addSite(api.db, ['order.created'])
  for (const siteId of [site.id, site.id, other.id]) {
    await api.send('POST', '/v1/events', { siteId, event: 'order.created', data: 1 })
    await api.send('POST', '/v1/jobs/sync-products', { siteId })
  }
  const paused = await switchSite(site.id, 'pause')
  expect(paused.statusCode, paused.body).toBe(200)
  expect(paused.json()).toEqual({ siteId: site.id, domain: 'webhooks', paused: true, held: 2 })
  await api.send('POST', '/v1/events', { siteId: site.id, event: 'order.created', data: 2 })
  expect(await statuses(site.id)).toEqual(Array.from({ length: 3 }, () => ['held', 'paused']))
  expect(await statuses(other.id)).toEqual([['pending', null]])
  expect((await api.send('POST', '/v1/jobs/sync-products', { siteId: site.id })).json()).toMatchObject({
    state: 'waiting',
  })

  expect((await switchSite(site.id, 'pause')).json()).toMatchObject({ paused: true, held: 0 })
  const resumed = await switchSite(site.id, 'resume')
  expect(resumed.json()).toEqual({ siteId: site.id, domain: 'webhooks', paused: false, released: 3 })
  expect(await statuses(site.id)).toEqual(Array.from({ length: 3 }, () => ['pending', null]))
  expect((await switchSite(site.id, 'resume')).json()).toMatchObject({ paused: false, released: 0 })
})

it('knows no deleted site', async () => {
  const { site } = await addSite(api.db)
  await api.db.update(websiteSites).set({ deletedAt: new Date() }).where(eq(websiteSites.id, site.id))
  for (const action of ['pause', 'resume'] as const) expect((await switchSite(site.id, action)).statusCode).toBe(404)
  expect((await api.send('GET', `/v1/sites/${site.id}/deliveries`)).statusCode).toBe(404)
})
