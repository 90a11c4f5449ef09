import { Command } from 'commander'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { addErpCommands } from '../../src/cli/erp.ts'
import { parseConfig } from '../../src/config.ts'
import { websiteSites } from '../../src/db/schema/index.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'
import { startErp, type Erp } from '../fixtures/erp.ts'

let database: TestDatabase
let erp: Erp
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  erp = await startErp({ token: 'erp-token-1' })
  const sku = (n: number) => `S-${n}`
  erp.products.fill(20, (n) => ({ id: n, sku: sku(n), name: `Product ${n}`, price: '1.00' }))
  erp.inventory.fill(20, (n) => ({ sku: sku(n), quantity: n }))
  erp.prices.fill(20, (n) => ({ sku: sku(n), price: '1.00' }))
})
afterEach(async () => {
  process.exitCode = undefined
  await erp.close()
})

async function check(command: string, environment: Record<string, string> = {}): Promise<string> {
  let written = ''
  const program = new Command('website-worker').exitOverride()
  addErpCommands(program, {
    config: () =>
      parseConfig({ ERP_URL: erp.url, ERP_TOKEN: 'erp-token-1', OUTBOUND_ALLOW_CIDRS: '127.0.0.1/32', ...environment }),
    onDatabase: (work) => work(database.db),
    terminal: { print: (line) => void (written += `${line}\n`) },
    version: '1.2.3',
  })
  for (const each of program.commands) each.exitOverride().configureOutput({ writeErr: () => {} })
  await program.parseAsync(['erp-check', ...command.split(' ').filter(Boolean)], { from: 'user' })
  return written
}

test('an ERP that keeps the contract passes, and is only read', async () => {
  const written = await check('')
  expect(written).not.toMatch(/^(warn|fail)/m)
  expect(written).toMatch(/14 ok, 0 to look at, 0 failed\n$/)
  expect(process.exitCode).toBeUndefined()
  expect(erp.requests.every(({ method }) => method === 'GET')).toBe(true)
  expect(erp.requests.length).toBeLessThan(25)
  expect(erp.requests[0]!.headers['user-agent']).toBe('website-worker/1.2.3 (erp-check)')
})

test('a site is checked as it is set up', async () => {
  const settings = { erp: { url: erp.url, siteKey: 'shop-1', credentials: 'ERP2', streams: ['products', 'inventory'] } }
  const [site] = await database.db
    .insert(websiteSites)
    .values({ name: 'Shop', domain: 'shop.example', settings })
    .returning({ id: websiteSites.id })
  const credential = {
    CREDENTIAL_ERP2: 'erp-token-1',
    CREDENTIAL_ERP2_HOSTS: '127.0.0.1',
    ERP_URL: 'https://x.example',
  }
  const written = await check(`--site ${site!.id}`, credential)
  expect(written).toContain('11 ok, 0 to look at, 0 failed')
  expect(erp.requests.every((request) => request.path === 'orders' || request.site === 'shop-1')).toBe(true)
  await expect(check('--site 99999')).rejects.toThrow('There is no site 99999')
})

describe('what is wrong is named, with what to do', () => {
  test.each([
    ['--token wrong-token-2', {}, 'fail  products: answered 401 Unauthorized', 'Set ERP_TOKEN'],
    ['--url http://127.0.0.2/', {}, 'fail  products: refused by the outbound guard', 'OUTBOUND_ALLOW_CIDRS'],
    ['', { OUTBOUND_ALLOW_CIDRS: '10.0.0.0/8' }, 'refused by the outbound guard', 'OUTBOUND_ALLOW_CIDRS'],
  ])('%s %j', async (command, environment, what, fix) => {
    const written = await check(command, environment)
    expect(written).toContain(what)
    expect(written).toContain(fix)
    expect(written).toContain('0 ok, 0 to look at, 1 failed')
    expect(process.exitCode).toBe(1)
  })

  test('no ERP at all', async () => {
    await expect(check('', { ERP_URL: '' })).rejects.toThrow('no ERP is set up')
    await expect(check('--url erp')).rejects.toThrow('an http(s) URL')
  })

  test('a secret stays with whom it belongs to', async () => {
    const other = await startErp()
    try {
      const written = await check(`--url ${other.url}`)
      expect(written).toContain('warn  token: it asks for none')
      expect(other.requests.every(({ headers }) => headers.authorization === undefined)).toBe(true)
    } finally {
      await other.close()
    }
  })

  test('records that can not be taken, without secrets', async () => {
    erp.products.change('2', { price: '-3' })
    erp.products.change('4', { sku: 'erp-token-1 ' })
    const written = await check('')
    expect(written).toContain('warn  products: 18 records of the first page are right, 2 are not')
    expect(written).toContain('warn  products: S-2: price: "-3" is negative')
    expect(written).toContain('warn  products: 4: sku: "[redacted] " begins or ends with a blank')
    expect(process.exitCode).toBeUndefined()
  })

  test.each([
    ['ignores the cursor', 'cursor', 'fail  cursor: a page repeats records of the one before'],
    ['ignores since', 'since', 'fail  products: since its own checkpoint of just now everything has changed'],
    ['ignores skus', 'skus', 'warn  products: asked for 2 SKUs, it sends 18 more'],
    ['ignores limit', 'limit', 'warn  limit: asked for 3 records, it sends 20'],
  ] as const)('one that %s', async (_, ignored, words) => {
    const strict = erp
    // What is asked for without that parameter is what it answers with.
    const loose = await startErp()
    loose.onRequest(async ({ path, limit, since, cursor, skus }) => {
      const asked = { limit: String(limit ?? ''), since, cursor, skus: skus?.join(',') ?? null, [ignored]: null }
      const query = new URLSearchParams()
      for (const [key, value] of Object.entries(asked)) if (value) query.set(key, value)
      const answer = await fetch(`${strict.url}/${path}?${query}`, { headers: { authorization: 'Bearer erp-token-1' } })
      return { status: answer.status, body: await answer.text() }
    })
    try {
      expect(await check(`--url ${loose.url} --token erp-token-1`)).toContain(words)
    } finally {
      await loose.close()
    }
  })

  test('streams that are missing, checkpoints that do not expire, orders that can not be searched', async () => {
    erp.onRequest(({ path, since }) =>
      path === 'prices' || path === 'orders' || since === 'website-worker-check' ? { status: 404 } : 'serve',
    )
    const written = await check('')
    expect(written).toContain('fail  prices: answered 404 Not Found')
    expect(written).toContain('leave "prices" out of settings.erp.streams')
    expect(written).toContain('warn  checkpoint: one it does not know: answers 404')
    expect(written).toContain('warn  orders: answered 404')
    expect(process.exitCode).toBe(1)
  })
})
