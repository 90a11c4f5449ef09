import { sql } from 'drizzle-orm'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createCredentials } from '../../src/clients/credentials.ts'
import { websiteForms, websiteIntegrations, websiteSites } from '../../src/db/schema/index.ts'
import type { CrmMood } from '../fixtures/crm.ts'
import { createLeadStack, type LeadStack, type LeadStackOptions } from './lead-fixtures.ts'

let stack: LeadStack
async function start(options: LeadStackOptions = {}) {
  stack = await createLeadStack(options)
  stack.work()
  stack.dispatcher.start()
}
afterEach(() => stack.close())

const eventually = <T>(check: () => Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 50 })
const allEnded = (status: Record<string, number>) =>
  eventually(async () => expect(await stack.statuses()).toEqual(status))
const firstItem = async () => (await stack.items())[0]!

describe('a submission', () => {
  test('becomes a lead without a call, with its mapped fields and everything else', async () => {
    await start()
    await stack.integration()
    const formId = await stack.form({
      settings: { crm: { fields: { email: 'your_email', message: 'text', company: 'nowhere' } } },
    })
    const data = {
      name: ' Ann\tBee ',
      your_email: 'ann@example.com',
      text: 'Hi\r\nthere',
      topic: ['a', 'b'],
      company: 'X',
    }
    const [id] = await stack.submit(formId, 1, data)
    await allEnded({ converted: 1 })
    expect(stack.crm.leads.map((lead) => lead.body)).toEqual([
      {
        reference: `web:submission:${id}`,
        siteId: stack.siteId,
        form: 'Contact',
        name: 'Ann Bee',
        email: 'ann@example.com',
        message: 'Hi\nthere',
        fields: { ...data, name: ' Ann\tBee ', text: 'Hi\nthere' },
      },
    ])
    expect(await stack.submission(id!)).toMatchObject({ status: 'converted', crmLeadId: 1 })
    expect(await stack.lead(id!)).toMatchObject({ leadId: '1', attempts: 1, searchFrom: null, unsure: false })
    expect(await stack.items('check-lead')).toEqual([])
  })

  test('keeps an id that is no INTEGER as text', async () => {
    await start()
    await stack.integration()
    stack.crm.nextId(12_345_678_901)
    const [id] = await stack.submit(await stack.form())
    await allEnded({ converted: 1 })
    expect(await stack.submission(id!)).toMatchObject({ crmLeadId: null })
    expect(await stack.lead(id!)).toMatchObject({ leadId: '12345678901' })
  })

  test('of a form without a CRM is processed', async () => {
    await start()
    await stack.submit(await stack.form({ crmLeadEnabled: false }))
    await allEnded({ processed: 1 })
    expect(stack.crm.posts).toBe(0)
  })

  test('that is asked for again and again is one lead', async () => {
    await start()
    await stack.integration()
    const [id] = await stack.submit(await stack.form())
    await allEnded({ converted: 1 })
    await stack.db.execute(sql`UPDATE website_form_submissions SET status = 'new'`)
    await stack.db.execute(
      sql`SELECT website_worker.enqueue('create-lead', ${JSON.stringify({ submissionId: id })}::jsonb)`,
    )
    await allEnded({ converted: 1 })
    expect(stack.crm.posts).toBe(1)
  })

  test('goes to the default integration of its site', async () => {
    await start()
    await stack.integration({ config: { url: 'http://127.0.0.1:1/' } })
    await stack.integration({ isDefault: true, isActive: false, config: { url: 'http://127.0.0.1:1/' } })
    const chosen = await stack.integration({ isDefault: true })
    const [id] = await stack.submit(await stack.form())
    await allEnded({ converted: 1 })
    expect(await stack.lead(id!)).toMatchObject({ integrationId: chosen })
  })

  test('that the CRM refuses fails, with its words, and once', async () => {
    await start()
    await stack.integration()
    stack.crm.onPost(() => ({ make: false, status: 422, body: '{"error":"no such pipeline"}' }))
    await stack.submit(await stack.form())
    await eventually(async () =>
      expect(await firstItem()).toMatchObject({
        state: 'failed',
        lastError: 'the CRM refuses it: answered 422 Unprocessable Entity: {"error":"no such pipeline"}',
      }),
    )
    expect(await stack.statuses()).toEqual({ new: 1 })
    expect(stack.crm.posts).toBe(1)
  })

  test('that the CRM turns away with our secret in its words fails without it', async () => {
    const sales = { secret: 'sales-token-1', hosts: ['127.0.0.1'] }
    await start({ credentials: createCredentials(new Map([['SALES', sales]])), waitsMs: [0, 50] })
    await stack.integration({ config: { url: stack.crm.url, credentials: 'SALES' } })
    stack.crm.onPost(() => ({ make: false, status: 401, body: '{"error":"unknown token sales-token-1"}' }))
    await stack.submit(await stack.form())
    await eventually(async () =>
      expect(await firstItem()).toMatchObject({
        state: 'failed',
        reason: 'out of attempts',
        lastError: 'answered 401 Unauthorized: {"error":"unknown token [redacted]"}',
      }),
    )
    expect(stack.crm.posts).toBe(2)
  })

  test('that was archived meanwhile stays so, and makes no lead', async () => {
    await start()
    await stack.integration()
    stack.crm.onPost((n) => (n === 1 ? { make: false, status: 503 } : 'make'))
    await stack.submit(await stack.form())
    await vi.waitFor(() => expect(stack.crm.posts).toBe(1))
    await stack.db.execute(sql`UPDATE website_form_submissions SET status = 'archived'`)
    await eventually(async () => expect(await firstItem()).toMatchObject({ state: 'done' }))
    expect(stack.crm.leads).toEqual([])
    expect(await stack.statuses()).toEqual({ archived: 1 })
  })
})

describe('20 submissions are 20 leads', () => {
  const moods: [string, (n: number) => CrmMood][] = [
    ['commits two and drops the connection', (n) => (n <= 2 ? 'make-and-drop' : 'make')],
    ['drops the connection before it commits', (n) => (n <= 2 ? 'drop' : 'make')],
    ['commits two and freezes', (n) => (n <= 2 ? 'make-and-freeze' : 'make')],
    ['freezes', (n) => (n <= 2 ? 'freeze' : 'make')],
    ['commits two and answers 500', (n) => (n <= 2 ? { make: true, status: 500 } : 'make')],
    ['answers 500', (n) => (n <= 5 ? { make: false, status: 500 } : 'make')],
    ['answers garbage', (n) => (n <= 3 ? { make: true, status: 201, body: '<html>created</html>' } : 'make')],
    ['answers nothing usable', (n) => (n <= 3 ? { make: true, status: 201, body: '{"ok":true}' } : 'make')],
    ['asks to wait', (n) => (n <= 2 ? { make: false, status: 429, headers: { 'retry-after': '1' } } : 'make')],
  ]
  test.each(moods)('although the CRM %s', async (_, mood) => {
    await start()
    await stack.integration()
    stack.crm.onPost(mood)
    const ids = await stack.submit(await stack.form(), 20)
    await allEnded({ converted: 20 })
    expect([...stack.crm.byReference()].toSorted()).toEqual(ids.map((id) => [`web:submission:${id}`, 1]).toSorted())
  })

  test('although a frozen CRM commits within the wait', async () => {
    await start({ settleMs: 1_500 })
    await stack.integration()
    stack.crm.onPost((n) => (n <= 2 ? 'late' : 'make'))
    await stack.submit(await stack.form(), 20)
    await eventually(async () => expect(await stack.statuses()).toEqual({ converted: 18, new: 2 }))
    stack.crm.late()
    await allEnded({ converted: 20 })
    expect([...stack.crm.byReference().values()]).toEqual(Array(20).fill(1))
  })
})

describe('before a lead is made again', () => {
  test('it is searched for where it may be, though another CRM is the default by now', async () => {
    await start({ settleMs: 2_000 })
    const first = await stack.integration()
    stack.crm.onPost((n) => (n === 1 ? 'make-and-drop' : 'make'))
    const [id] = await stack.submit(await stack.form())
    await vi.waitFor(() => expect(stack.crm.leads).toHaveLength(1))
    await stack.db.update(websiteIntegrations).set({ isActive: false })
    await stack.integration({ isDefault: true, config: { url: 'http://127.0.0.1:1/' } })
    await allEnded({ converted: 1 })
    expect(await stack.lead(id!)).toMatchObject({ integrationId: first, leadId: '1', attempts: 1 })
  })

  test('it is made at another CRM where that one is gone', async () => {
    await start({ settleMs: 2_000 })
    await stack.integration()
    stack.crm.onPost((n) => (n === 1 ? 'drop' : 'make'))
    const [id] = await stack.submit(await stack.form())
    await vi.waitFor(() => expect(stack.crm.posts).toBe(1))
    await stack.db.delete(websiteIntegrations)
    const second = await stack.integration()
    await allEnded({ converted: 1 })
    expect(await stack.lead(id!)).toMatchObject({ integrationId: second, attempts: 2, unsure: true })
  })

  test('it is searched for each time, once a call may still work late', async () => {
    await start({ waitsMs: [0, 0, 2_000] })
    await stack.integration()
    stack.crm.onPost((n) => (n === 1 ? 'late' : n === 2 ? { make: false, status: 404 } : 'make'))
    const [id] = await stack.submit(await stack.form())
    await vi.waitFor(() => expect(stack.crm.posts).toBe(2), { timeout: 15_000 })
    stack.crm.late()
    await allEnded({ converted: 1 })
    expect(stack.crm.byReference()).toEqual(new Map([[`web:submission:${id}`, 1]]))
    expect(stack.crm.posts).toBe(2)
  })

  test("a CRM that answers a search with all it has is held, and no other's lead is taken", async () => {
    await start()
    await stack.integration()
    stack.crm.onPost((n) => (n === 1 ? 'make-and-drop' : 'make'))
    stack.crm.onSearch({ status: 200, body: '{"items":[{"id":7},{"id":8}]}' })
    await stack.submit(await stack.form())
    await eventually(async () =>
      expect(await firstItem()).toMatchObject({
        state: 'held',
        lastError: expect.stringContaining('does not search by reference'),
      }),
    )
    stack.crm.onSearch(undefined)
    await stack.db.execute(sql`UPDATE website_integrations SET config = config || '{"mended": true}'`)
    await allEnded({ converted: 1 })
    expect(stack.crm.posts).toBe(1)
  })

  test('a search that fails is tried again', async () => {
    await start()
    await stack.integration()
    stack.crm.onPost((n) => (n === 1 ? 'make-and-drop' : 'make'))
    stack.crm.onSearch({ status: 500, body: 'not now' })
    await stack.submit(await stack.form())
    await eventually(async () =>
      expect(await firstItem()).toMatchObject({
        lastError: 'could not search for the lead: answered 500 Internal Server Error: not now',
      }),
    )
    stack.crm.onSearch(undefined)
    await allEnded({ converted: 1 })
    expect(stack.crm.posts).toBe(1)
  })
})

test('a CRM that commits after the wait: the duplicate is found, and reported', async () => {
  await start({ checkWaitsMs: [300, 300, 300] })
  await stack.integration()
  stack.crm.onPost((n) => (n === 1 ? 'late' : 'make'))
  const [id] = await stack.submit(await stack.form())
  await allEnded({ converted: 1 })
  stack.crm.late()
  expect(stack.crm.byReference()).toEqual(new Map([[`web:submission:${id}`, 2]]))
  await eventually(async () => {
    const checks = await stack.items('check-lead')
    expect(checks.map((item) => item.state)).toEqual(['done', 'done', 'done'])
    expect(checks.at(-1)!.result).toEqual({ leadId: '1', duplicates: ['2'] })
  })
  expect(await stack.lead(id!)).toMatchObject({ leadId: '1', unsure: true, duplicates: ['2'] })
  const { rows } = await stack.db.execute(
    sql`SELECT action, resource_type, resource_id, resource_name, changes FROM website_audit_logs`,
  )
  expect(rows).toEqual([
    {
      action: 'lead.duplicated',
      resource_type: 'form_submission',
      resource_id: id,
      resource_name: 'Contact',
      changes: { reference: `web:submission:${id}`, leadId: '1', duplicates: ['2'] },
    },
  ])
})

describe('held, and let go when the cause is gone:', () => {
  const held = async (reason: string | RegExp, error: string | RegExp = /.*/) =>
    eventually(async () => {
      const item = await firstItem()
      expect(item).toMatchObject({ state: 'held', attempts: 0, reason: expect.stringMatching(reason) })
      expect(item.lastError ?? '').toMatch(error)
      expect(stack.crm.posts).toBe(0)
    })

  test('an inactive form', async () => {
    await start()
    await stack.integration()
    const formId = await stack.form({ isActive: false })
    await stack.submit(formId, 3)
    await held(`form ${formId} inactive`)
    await stack.db.update(websiteForms).set({ isActive: true })
    await allEnded({ converted: 3 })
  })

  test('a deleted form', async () => {
    await start()
    await stack.integration()
    const formId = await stack.form({ deletedAt: new Date() })
    await stack.submit(formId)
    await held(`form ${formId} deleted`)
    await stack.db.update(websiteForms).set({ deletedAt: null })
    await allEnded({ converted: 1 })
  })

  test('a form whose row is gone, with its submissions', async () => {
    await start()
    const formId = await stack.form({ isActive: false })
    await stack.submit(formId)
    await held(`form ${formId} inactive`)
    await stack.db.delete(websiteForms)
    await eventually(async () => expect(await firstItem()).toMatchObject({ state: 'cancelled' }))
  })

  test.each([
    ['inactive', { status: 'inactive' as const }, { status: 'active' as const }],
    ['deleted', { deletedAt: new Date() }, { deletedAt: null }],
  ])('a site that is %s', async (state, off, on) => {
    await start()
    await stack.integration()
    await stack.db.update(websiteSites).set(off)
    await stack.submit(await stack.form())
    await held(`site ${state}`)
    await stack.db.update(websiteSites).set(on)
    await allEnded({ converted: 1 })
  })

  test('a site without a CRM', async () => {
    await start()
    await stack.submit(await stack.form(), 5)
    await held('no CRM integration', 'the site has no active integration of type crm')
    await stack.integration()
    await allEnded({ converted: 5 })
    const { rows } = await stack.db.execute(sql`SELECT * FROM website_worker.integration_faults`)
    expect(rows).toEqual([])
  })

  test.each([
    ['a URL that is none', { url: 'crm' }, /integration "Sales" \(\d+\): config\.url: must be an http\(s\) URL/],
    ['an address that is private', { url: 'http://10.0.0.1/' }, /"Sales" .*refused by the outbound guard: 10\.0\.0\.1/],
    [
      'a variable that is no credential',
      { credentials: 'DATABASE_URL' },
      /"Sales" .*CREDENTIAL_DATABASE_URL is not set/,
    ],
    [
      'a host that is not listed',
      { credentials: 'ELSEWHERE' },
      /"Sales" .*127\.0\.0\.1 is not listed in CREDENTIAL_ELSEWHERE_HOSTS/,
    ],
  ])('%s', async (_, config, error) => {
    const elsewhere = { secret: 'not-for-everyone', hosts: ['crm.example'] }
    await start({ credentials: createCredentials(new Map([['ELSEWHERE', elsewhere]])) })
    await stack.integration({ config: { url: stack.crm.url, ...config } })
    await stack.submit(await stack.form(), 5)
    await held('CRM integration unusable', error)
    await stack.db.update(websiteIntegrations).set({ config: { url: stack.crm.url } })
    await allEnded({ converted: 5 })
    const { rows } = await stack.db.execute(sql`SELECT * FROM website_worker.work`)
    expect(JSON.stringify(rows)).not.toContain('not-for-everyone')
  })
})

describe('what people, or machines, type', () => {
  const weird: [string, unknown][] = [
    ['1 MB strings', { name: 'x'.repeat(1_000_000), message: 'y'.repeat(1_000_000), other: 'z'.repeat(1_000_000) }],
    [
      'nested objects',
      { name: { first: 'Ann' }, email: [{ deep: true }], a: { b: { c: { d: { e: { f: { g: 1 } } } } } } },
    ],
    ['nothing', {}],
    ['no object', 'just text'],
    ['a list', [1, 2, 3]],
    ['null', null],
    ['CR and LF in the e-mail field', { email: 'a@example.com\r\nBcc: all@example.com', name: 'A\r\nX-Evil: 1' }],
    ['ten thousand fields', Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`field ${i}`, i]))],
    ['names of properties', JSON.parse('{"__proto__": {"a": 1}, "constructor": "x", "toString": "y"}')],
  ]
  test('comes to a clear end: one lead each, of bounded size, nothing injected', async () => {
    await start({ timeoutMs: 5_000 })
    await stack.integration()
    const formId = await stack.form()
    for (const [, data] of weird) await stack.submit(formId, 1, data)
    await allEnded({ converted: weird.length })
    expect(stack.crm.byReference().size).toBe(weird.length)
    for (const { body, headers } of stack.crm.leads) {
      expect(JSON.stringify(body).length).toBeLessThan(300_000)
      expect(String(body['name'] ?? '').length).toBeLessThanOrEqual(255)
      expect(String(body['message'] ?? '').length).toBeLessThanOrEqual(20_000)
      expect(JSON.stringify([body['name'], body['email'], headers])).not.toMatch(/\\r|\\n/)
      expect(headers).not.toHaveProperty('x-evil')
    }
    const injected = stack.crm.leads.find(({ body }) => body['name'] === 'A X-Evil: 1')
    expect(injected!.body).not.toHaveProperty('email')
    expect(injected!.body['fields']).toEqual({ email: 'a@example.com\nBcc: all@example.com', name: 'A\nX-Evil: 1' })
  })
})
