import { Redis } from 'ioredis'
import { expect, inject, test } from 'vitest'
import { createTestDatabase } from './fixtures/database.ts'
import { openFixtures } from './fixtures/open-fixtures.ts'
import { startReceiver } from './fixtures/receiver.ts'
import { startRedis } from './fixtures/redis.ts'
import { randomPrefix, sharedRedisUrl } from './fixtures/shared-redis.ts'

test('a test database is a migrated clone that no one else sees', async () => {
  const [one, two] = await Promise.all([createTestDatabase(), createTestDatabase()])
  const { rows } = await one.pool.query(
    `SELECT to_regclass('website_worker.work') AS name, current_setting('timezone') AS zone`,
  )
  expect(rows).toEqual([{ name: 'website_worker.work', zone: 'UTC' }])
  await one.pool.query('CREATE TABLE only_here ()')
  expect((await two.pool.query(`SELECT to_regclass('only_here') AS name`)).rows).toEqual([{ name: null }])
  expect(openFixtures()).toHaveLength(2)
  await Promise.all([one.drop(), two.drop()])
  expect(openFixtures()).toEqual([])
})

test('an empty test database holds nothing', async () => {
  const database = await createTestDatabase({ template: 'empty' })
  const { rows } = await database.pool.query(`SELECT count(*)::int AS n FROM pg_tables WHERE schemaname = 'public'`)
  expect(rows).toEqual([{ n: 0 }])
  await database.drop()
})

test('the shared Redis answers and prefixes differ', async () => {
  const client = new Redis(sharedRedisUrl())
  expect(await client.ping()).toBe('PONG')
  client.disconnect()
  expect(randomPrefix()).not.toBe(randomPrefix())
  expect(randomPrefix()).toContain(inject('runId'))
})

test('a private Redis restarts full or empty, dies, is flushed and put back to an earlier dump', async () => {
  const server = await startRedis()
  const client = new Redis(server.url, { retryStrategy: () => 20 })
  client.on('error', () => {})
  await client.set('key', 'old')
  const dump = await server.dump()
  await client.set('key', 'new')
  await server.restart()
  expect(await client.get('key')).toBe('new')
  await server.restore(dump)
  expect(await client.get('key')).toBe('old')
  await server.restart({ empty: true })
  expect(await client.get('key')).toBeNull()
  await server.kill()
  await server.restart()
  await client.set('key', 'again')
  await server.flush()
  expect(await client.get('key')).toBeNull()
  expect(await client.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'noeviction'])
  client.disconnect()
  await server.stop()
  await server.stop()
})

test('a receiver answers as told, records the bytes, hangs and cuts', async () => {
  const receiver = await startReceiver((_request, n) =>
    n === 1 ? { status: 418, headers: { 'x-n': '1' }, body: 'tea' } : 'reset',
  )
  const response = await fetch(`${receiver.url}/hook?a=1`, { method: 'POST', body: 'ä', headers: { 'x-test': 'yes' } })
  expect([response.status, response.headers.get('x-n'), await response.text()]).toEqual([418, '1', 'tea'])
  expect(receiver.requests[0]).toMatchObject({ method: 'POST', path: '/hook?a=1', body: Buffer.from('ä') })
  expect(receiver.requests[0]!.headers['x-test']).toBe('yes')
  await expect(fetch(receiver.url)).rejects.toThrow('fetch failed')
  receiver.answer(() => 'hang')
  const hanging = fetch(receiver.url).catch((error: unknown) => error)
  expect(await receiver.waitFor(3)).toHaveLength(3)
  await expect(receiver.waitFor(4, 20)).rejects.toThrow('3 of 4 requests after 20 ms')
  await receiver.close()
  expect(await hanging).toBeInstanceOf(Error)
})
