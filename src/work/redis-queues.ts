import { createQueues, type QueueBackend } from './backend.ts'
import { openRedis, type RedisBackendOptions } from './redis.ts'

// A Redis that was restarted or failed over may have lost its last second, so it counts as another one.
const runId = `local run = string.match(redis.call('info', 'server'), 'run_id:(%w+)') or ''`

// In one step: a wipe between reading and writing would otherwise be overwritten and never noticed.
const advance = `${runId}
if redis.call('hget', KEYS[1], 'queueId') ~= ARGV[1] or redis.call('hget', KEYS[1], 'run') ~= run then return nil end
return redis.call('hincrby', KEYS[1], 'counter', 1)`

const write = `${runId}
return redis.call('hset', KEYS[1], 'queueId', ARGV[1], 'counter', ARGV[2], 'run', run)`

/** Rings in Redis: production, and anything with more than one process. A Redis that is away is waited for a moment only. */
export async function openRedisQueues(options: RedisBackendOptions, waitMs = 1_000): Promise<QueueBackend> {
  const redis = openRedis(options)
  await redis.whenReady(waitMs)
  // A `Queue` made while Redis is away would ask it for its version, remember the refusal and fail for ever.
  const queues = createQueues({
    connection: redis.commands,
    prefix: redis.prefix,
    skipWaitingForReady: true,
    skipVersionCheck: true,
  })
  const markKey = `${redis.prefix}:mark`
  return {
    kind: 'redis',
    queue: queues.queue,
    workerOptions: { connection: redis.blocking, prefix: redis.prefix } as never,
    factory: undefined,
    ready: redis.ready,
    onReady: redis.onReady,
    // BullMQ waits for Redis by itself.
    onLost: () => {},
    async readMark() {
      const mark = await redis.commands.hgetall(markKey)
      return mark.queueId ? { queueId: mark.queueId, counter: Number(mark.counter) } : null
    },
    async advanceMark(queueId) {
      const counter = await redis.commands.eval(advance, 1, markKey, queueId)
      return counter === null ? null : Number(counter)
    },
    async writeMark(mark) {
      await redis.commands.eval(write, 1, markKey, mark.queueId, String(mark.counter))
    },
    async close() {
      await queues.close()
      await redis.close()
    },
  }
}
