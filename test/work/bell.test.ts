import { pino } from 'pino'
import { expect, test, vi } from 'vitest'
import { enqueueItem, registerJobs } from '../../src/db/queries/enqueue.ts'
import { work } from '../../src/db/schema/worker.ts'
import { openRedisQueues } from '../../src/work/redis-queues.ts'
import { createBell, ringName } from '../../src/work/bell.ts'
import { createTestDatabase } from '../fixtures/database.ts'
import { startRedis } from '../fixtures/redis.ts'
import { randomPrefix } from '../fixtures/shared-redis.ts'
import { takeNote } from '../fixtures/take-note.ts'

test('a ring is called what a person would call it', () => {
  expect(ringName({ job: 'deliver-webhook', label: 'order.created → shop.example', attempts: 0 })).toBe(
    'order.created → shop.example',
  )
  expect(ringName({ job: 'deliver-webhook', label: 'order.created → shop.example', attempts: 2 })).toBe(
    'order.created → shop.example · attempt 3',
  )
  expect(ringName({ job: 'maintain', label: '', attempts: 0 })).toBe('maintain')
})

test('a ring that nobody hears goes back to the dispatcher, also when Redis was never there or falls silent', async () => {
  const redis = await startRedis()
  const database = await createTestDatabase()
  await registerJobs(database.db, [takeNote])
  const silent = pino({ level: 'silent' })
  const open = async () => {
    const backend = await openRedisQueues({ url: redis.url, prefix: randomPrefix() }, 100)
    return { backend, bell: createBell({ db: database.db, backend, log: silent }, { deadlineMs: 300 }) }
  }
  const ringOne = async (bell: Awaited<ReturnType<typeof open>>['bell'], n: number) => {
    const item = await enqueueItem(database.db, 'take-note', { n }, { rung: true })
    const began = performance.now()
    bell.ring([item])
    expect(performance.now() - began).toBeLessThan(50)
    await bell.settled()
    const row = (await database.db.select().from(work)).find(({ id }) => id === item.workId)
    return row?.rungAt ?? null
  }
  const connected = await open()
  expect(await ringOne(connected.bell, 1)).not.toBeNull()
  await redis.kill()
  await vi.waitFor(() => expect(connected.bell.ready()).toBe(false))
  expect(await ringOne(connected.bell, 2)).toBeNull()
  const never = await open()
  expect(await ringOne(never.bell, 3)).toBeNull()
  await connected.backend.close()
  await never.backend.close()
  await redis.stop()
  await database.drop()
})
