import { once } from 'node:events'
import { eq } from 'drizzle-orm'
import { Redis } from 'ioredis'
import { describe, expect, test, vi } from 'vitest'
import { enqueueItem } from '../../src/db/queries/enqueue.ts'
import { work } from '../../src/db/schema/worker.ts'
import { checkRedis, judgeRedis, parseRedisUrl } from '../../src/work/redis.ts'
import { startRedis } from '../fixtures/redis.ts'
import { createStack } from '../fixtures/stack.ts'
import { takeNote } from '../fixtures/take-note.ts'

describe('a Redis URL', () => {
  test.each([
    ['redis://cache', { kind: 'single', nodes: [{ host: 'cache', port: 6379 }], options: { db: 0 } }],
    [
      'rediss://app:p%40ss@cache:6380/2',
      {
        kind: 'single',
        nodes: [{ host: 'cache', port: 6380 }],
        options: { db: 2, username: 'app', password: 'p@ss', tls: {} },
      },
    ],
    ['redis://:secret@[::1]:7000', { nodes: [{ host: '::1', port: 7000 }], options: { password: 'secret' } }],
    [
      'redis+cluster://a:7000,b:7001',
      {
        kind: 'cluster',
        nodes: [
          { host: 'a', port: 7000 },
          { host: 'b', port: 7001 },
        ],
      },
    ],
    [
      'rediss+sentinel://:s@a,b:26380/mymaster/3',
      {
        kind: 'sentinel',
        nodes: [
          { host: 'a', port: 26_379 },
          { host: 'b', port: 26_380 },
        ],
        master: 'mymaster',
        options: { db: 3, tls: {} },
      },
    ],
  ])('%s is understood', (url, expected) => {
    expect(parseRedisUrl(url)).toMatchObject(expected)
  })

  test.each(['http://x', 'redis://', 'redis://host:port', 'redis://host/zero'])('%s is refused', (url) => {
    expect(() => parseRedisUrl(url)).toThrow('REDIS_URL')
  })
})

describe('a Redis server', () => {
  test('that evicts keys or is too old is refused, one without persistence is warned of', () => {
    expect(judgeRedis('redis_version:7.0.15\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1').refusals).toHaveLength(1)
    expect(judgeRedis('redis_version:6.0.9\r\nmaxmemory_policy:noeviction').refusals).toEqual([
      'Redis 6.0.9 is too old: 6.2 or newer',
    ])
    expect(judgeRedis('redis_version:8.2.1\r\nmaxmemory_policy:noeviction\r\naof_enabled:0')).toMatchObject({
      refusals: [],
      warnings: [expect.stringContaining('append-only')],
    })
  })

  test('is asked how it is set up, and one that is not there is not waited for', async () => {
    const redis = await startRedis()
    expect(await checkRedis({ url: redis.url })).toMatchObject({ refusals: [] })
    await redis.kill()
    expect(await checkRedis({ url: redis.url }, 200)).toBeUndefined()
    await redis.stop()
  })

  test('in cluster mode takes rings, which all live in one slot', async () => {
    const redis = await startRedis(['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1'])
    const admin = new Redis(redis.url)
    await admin.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
    await vi.waitFor(
      async () => expect(String(await admin.call('CLUSTER', 'INFO'))).toContain('cluster_state:ok'),
      10_000,
    )
    const stack = await createStack({
      backend: 'redis',
      redisUrl: `redis+cluster://127.0.0.1:${redis.port}`,
      prefix: 'clustered',
      jobs: [{ definition: takeNote, processor: { process: async () => ({ kind: 'done' }) } }],
    })
    expect(stack.backend.ready()).toBe(true)
    const item = await enqueueItem(stack.db, 'take-note', { n: 1 }, { rung: false })
    stack.work()
    await stack.dispatcher.tick()
    await vi.waitFor(async () => {
      const [row] = await stack.db.select().from(work).where(eq(work.id, item.workId))
      expect(row?.state).toBe('done')
    })
    expect(await stack.backend.readMark()).toMatchObject({ counter: 1 })
    expect((await admin.keys('*')).every((key) => key.startsWith('{clustered}'))).toBe(true)
    await stack.close()
    admin.disconnect()
    await once(admin, 'end')
    await redis.stop()
  })
})
