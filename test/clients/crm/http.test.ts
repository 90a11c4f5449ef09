import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createCredentials } from '../../../src/clients/credentials.ts'
import { openCrm, type Integration } from '../../../src/clients/crm/index.ts'
import { createGuard } from '../../../src/clients/guard.ts'
import { createJsonCaller, type JsonCaller } from '../../../src/clients/json-call.ts'
import { startCrm, type Crm } from '../../fixtures/crm.ts'

let crm: Crm
let caller: JsonCaller
beforeEach(async () => {
  crm = await startCrm()
  caller = createJsonCaller({
    guard: createGuard({ allowCidrs: ['127.0.0.1/32'] }),
    timeoutMs: 500,
    freshConnections: true,
  })
})
afterEach(async () => {
  await caller.close()
  await crm.close()
})

const credentials = createCredentials(
  new Map([
    ['SALES', { secret: 'sales-token-1', hosts: ['127.0.0.1'] }],
    ['ELSEWHERE', { secret: 'other-token-2', hosts: ['crm.example'] }],
  ]),
)
const open = (config: unknown = {}, rest: Partial<Integration> = {}) =>
  openCrm(
    { id: 7, name: 'Sales', provider: 'http', config: { url: crm.url, ...(config as object) }, ...rest },
    { caller, credentials },
  )
const { signal } = new AbortController()
const lead = { reference: 'web:submission:1', siteId: 1, form: 'Contact', fields: { a: 1 } }
const create = (config?: unknown) => open(config).create(lead, { signal })

describe('a CRM over HTTP', () => {
  test('gets a lead once, with its reference and its secret', async () => {
    expect(await create({ url: `${crm.url}/?tenant=3`, credentials: 'SALES' })).toEqual({ kind: 'made', leadId: '1' })
    const [made] = crm.leads
    expect(made!.body).toEqual(lead)
    expect(made!.headers).toMatchObject({
      authorization: 'Bearer sales-token-1',
      'idempotency-key': 'web:submission:1',
    })
  })

  test('finds leads by reference', async () => {
    expect(await open().find(lead.reference, { signal })).toEqual({ kind: 'found', leadIds: [] })
    await create()
    await create()
    expect(await open().find(lead.reference, { signal })).toEqual({ kind: 'found', leadIds: ['1', '2'] })
  })

  test("that answers a search with others' leads is not believed", async () => {
    crm.onSearch({ status: 200, body: '{"items":[{"id":1,"reference":"web:submission:9"},{"id":2}]}' })
    expect(await open().find(lead.reference, { signal })).toEqual({ kind: 'found', leadIds: ['2'] })
  })

  test('may have ids of any kind', async () => {
    crm.nextId(12_345_678_901)
    expect(await create()).toEqual({ kind: 'made', leadId: '12345678901' })
    crm.nextId('0063X00000abc')
    expect(await create()).toEqual({ kind: 'made', leadId: '0063X00000abc' })
    crm.onPost(() => ({ make: true, status: 201, body: '{"id":12345678901234567890}' }))
    expect(await create()).toMatchObject({ kind: 'unknown', error: expect.stringContaining('send it as text') })
  })

  test.each([
    ['make-and-drop', 'unknown'],
    ['freeze', 'unknown'],
    [{ make: true, status: 500 }, 'unknown'],
    [{ make: true, status: 200, body: '<html>' }, 'unknown'],
    [{ make: true, status: 201, body: '{}' }, 'unknown'],
    [{ make: false, status: 303, headers: { location: '/' } }, 'unknown'],
    [{ make: false, status: 409 }, 'unknown'],
    [{ make: false, status: 429, headers: { 'retry-after': '3' } }, 'unmade'],
    [{ make: false, status: 401 }, 'unmade'],
    [{ make: false, status: 404 }, 'unmade'],
    [{ make: false, status: 422, body: 'no pipeline' }, 'rejected'],
  ] as const)('that does %j leaves it %s', async (mood, kind) => {
    crm.onPost(() => mood)
    expect(await create()).toMatchObject({ kind, error: expect.stringMatching(/\w/) })
    expect(crm.posts).toBe(1)
  })

  test('that is away has made nothing', async () => {
    await crm.close()
    expect(await create()).toMatchObject({ kind: 'unmade', error: expect.stringContaining('connection refused') })
  })

  test('that repeats our secret is not repeated', async () => {
    crm.onPost(() => ({ make: false, status: 401, body: '{"error":"bad token sales-token-1"}' }))
    const result = await create({ credentials: 'SALES' })
    expect(JSON.stringify(result)).toContain('[redacted]')
    expect(JSON.stringify(result)).not.toContain('sales-token-1')
  })
})

describe('an integration that is set up wrongly is named, and nothing is sent', () => {
  test.each([
    [{ url: 'crm' }, {}, 'integration "Sales" (7): config.url: must be an http(s) URL'],
    [{ url: 'file:///etc/passwd' }, {}, 'config.url'],
    [{ url: 'https://user:pass@crm.example/' }, {}, 'config.url: must not hold a user or password'],
    [
      { credentials: 'DATABASE_URL' },
      {},
      'integration "Sales" (7): config.credentials: CREDENTIAL_DATABASE_URL is not set',
    ],
    [{ credentials: 'ELSEWHERE' }, {}, '127.0.0.1 is not listed in CREDENTIAL_ELSEWHERE_HOSTS'],
    [{ credentials: { $env: 'X' } }, {}, 'config.credentials: must be the name of a credential'],
    [{}, { provider: 'tryton' }, 'integration "Sales" (7): provider "tryton" is unknown; there is http'],
    [{}, { config: null }, 'integration "Sales" (7): config: '],
    [{}, { config: 'https://crm.example' }, 'integration "Sales" (7): config: '],
  ])('%j %j', (config, rest, words) => {
    expect(() => open(config, rest)).toThrow(words)
    expect(crm.posts).toBe(0)
  })

  test('also when the guard refuses its address', async () => {
    const url = 'http://10.1.2.3/crm'
    expect(await create({ url })).toEqual({
      kind: 'unusable',
      error: expect.stringMatching(
        /^integration "Sales" \(7\): config.url: refused by the outbound guard: 10\.1\.2\.3/,
      ),
    })
    expect(await open({ url }).find('x', { signal })).toMatchObject({ kind: 'unusable' })
  })
})
