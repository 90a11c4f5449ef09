import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createCredentials } from '../../../src/clients/credentials.ts'
import { openErp, readErpSettings, type ErpEnvironment } from '../../../src/clients/erp/settings.ts'
import { createGuard } from '../../../src/clients/guard.ts'
import { createJsonCaller, type JsonCaller } from '../../../src/clients/json-call.ts'
import { startErp, type Erp } from '../../fixtures/erp.ts'

let erp: Erp
let caller: JsonCaller
beforeEach(async () => {
  erp = await startErp()
  caller = createJsonCaller({ guard: createGuard({ allowCidrs: ['127.0.0.1/32'] }) })
})
afterEach(async () => {
  await caller.close()
  await erp.close()
})

const credentials = createCredentials(
  new Map([
    ['ERP2', { secret: 'erp2-secret', hosts: ['127.0.0.1'] }],
    ['ELSEWHERE', { secret: 'other-secret', hosts: ['erp.example'] }],
  ]),
)
const limits: unknown[] = []
const open = (site: unknown, environment: ErpEnvironment = {}) =>
  openErp(site, environment, {
    caller,
    credentials,
    userAgent: 'website-worker/1',
    turns: {
      enter: (_, most) => {
        limits.push(most)
        return Promise.resolve({ kind: 'go', leave: () => Promise.resolve() })
      },
    },
  })
/** What the ERP got. */
async function sent(site: unknown, environment?: ErpEnvironment) {
  const { connector } = open(site, environment)
  await connector.page({ type: 'product', siteId: 1, runId: 1, signal: new AbortController().signal })
  const { headers, limit, site: siteKey } = erp.requests.at(-1)!
  return { authorization: headers.authorization, limit, siteKey }
}

describe('the settings of a site', () => {
  test('may be missing, or hold nulls', () => {
    for (const none of [undefined, null, {}, { url: null, schedule: null, fields: null }])
      expect(readErpSettings(none)).toEqual({
        schedule: {},
        streams: ['products', 'inventory', 'prices'],
        pushOrders: 'off',
        maxConcurrent: 4,
        requestsPerSecond: 10,
        pageSize: 500,
      })
  })

  test('come before the environment', async () => {
    const environment = { url: 'https://erp.example/', token: 'env-token' }
    expect(open({}, environment).connector.origin).toBe('https://erp.example')
    expect(open({ url: erp.url }, environment).connector.origin).toBe(new URL(erp.url).origin)
    const site = { url: erp.url, siteKey: 'shop', pageSize: 7, maxConcurrent: 2, requestsPerSecond: 0.5 }
    expect(await sent(site, environment)).toMatchObject({ limit: 7, siteKey: 'shop' })
    expect(limits.at(-1)).toEqual({ maxConcurrent: 2, requestsPerSecond: 0.5 })
  })

  test('say which streams there are', () => {
    expect(open({ url: erp.url }).connector.types).toEqual(['product', 'inventory', 'price'])
    expect(open({ url: erp.url, streams: ['products', 'inventory'] }).connector.types).toEqual(['product', 'inventory'])
  })

  test('may leave fields to the shop, and say how often each stream is read', () => {
    const site = {
      url: erp.url,
      fields: ['name'],
      schedule: { products: '1h', prices: 'off', inventory: null },
      pushOrders: 'paid',
    }
    expect(open(site).settings).toMatchObject({
      fields: ['name'],
      schedule: { products: '1h', prices: 'off' },
      pushOrders: 'paid',
    })
  })

  test.each([
    [{}, 'no ERP is set up: set ERP_URL, or settings.erp.url of the site'],
    ['https://erp.example', 'settings.erp: must be an object'],
    [{ url: 'erp' }, 'settings.erp.url: must be an http(s) URL'],
    [{ url: 'file:///etc/passwd' }, 'settings.erp.url: must be an http(s) URL'],
    [{ url: 'https://user:pass@erp.example/' }, 'settings.erp.url: must not hold a user or password'],
    [{ url: 'https://erp.example', provider: 'sap' }, 'settings.erp.provider: "sap" is unknown; there is http'],
    [{ schedule: { products: 'hourly' } }, 'settings.erp.schedule.products: must be like "15m", "1h" or "off"'],
    [{ streams: [] }, 'settings.erp.streams'],
    [{ pushOrders: true }, 'settings.erp.pushOrders'],
    [{ fields: ['price'] }, 'settings.erp.fields.0'],
    [{ maxConcurrent: 100 }, 'settings.erp.maxConcurrent'],
    [{ requestsPerSecond: 0 }, 'settings.erp.requestsPerSecond'],
    [{ siteKey: 'a\0' }, 'settings.erp.siteKey: must be a text of 1 to 255 characters'],
    [
      { url: 'https://other.example', credentials: 'ERP2' },
      'settings.erp.credentials: other.example is not listed in CREDENTIAL_ERP2_HOSTS',
    ],
    [{ url: 'https://erp.example', credentials: 'ERP_TOKEN' }, 'CREDENTIAL_ERP_TOKEN is not set'],
  ])('%j are refused', (site, words) => {
    expect(() => open(site)).toThrow(expect.objectContaining({ code: 'misconfigured' }))
    expect(() => open(site)).toThrow(words)
  })
})

describe('a secret', () => {
  test("of the environment goes to the environment's own ERP alone", async () => {
    const own = { url: `${erp.url}/v1`, token: 'env-token' }
    expect(await sent({ url: erp.url }, own)).toMatchObject({ authorization: 'Bearer env-token' })
    const elsewhere = { url: 'https://erp.example/', token: 'env-token' }
    expect((await sent({ url: erp.url }, elsewhere)).authorization).toBeUndefined()
    expect((await sent({ url: erp.url }, { token: 'env-token' })).authorization).toBeUndefined()
  })

  test('that the site names goes to the hosts listed for it', async () => {
    const own = { url: erp.url, token: 'env-token' }
    expect(await sent({ credentials: 'ERP2' }, own)).toMatchObject({ authorization: 'Bearer erp2-secret' })
  })
})
