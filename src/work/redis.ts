import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { AppError } from '../errors.ts'

export interface RedisBackendOptions {
  /** `redis://`, `rediss://`, `redis+cluster://a:7000,b:7000` or `redis+sentinel://a:26379,b:26379/master`; add `s` for TLS. */
  url: string
  /** Separates installations that share a Redis. Default: `website-worker`. */
  prefix?: string
}

interface Target {
  kind: 'single' | 'cluster' | 'sentinel'
  nodes: { host: string; port: number }[]
  master: string
  options: RedisOptions
}

/** Reads a Redis URL. @throws AppError `misconfigured` */
export function parseRedisUrl(url: string): Target {
  const match = /^redis(s?)(?:\+(cluster|sentinel))?:\/\/(?:([^@]*)@)?([^/?]+)(?:\/([^/?]*))?(?:\/(\d+))?$/.exec(url)
  if (!match) throw new AppError('misconfigured', 'REDIS_URL: expected redis://[user:password@]host:6379[/0]')
  const [, tls, kind = 'single', credentials = '', hosts = '', path = '', last] = match
  const [username = '', password = ''] = credentials.split(':').map(decodeURIComponent)
  const database = Number(kind === 'sentinel' ? (last ?? 0) : path || 0)
  if (!Number.isInteger(database)) throw new AppError('misconfigured', `REDIS_URL: "${path}" isn't a database number`)
  return {
    kind: kind as Target['kind'],
    nodes: hosts.split(',').map((node) => {
      const [, host = '', port] = /^(\[[^\]]+\]|[^:]+)(?::(\d+))?$/.exec(node) ?? []
      if (!host) throw new AppError('misconfigured', `REDIS_URL: "${node}" isn't host:port`)
      return { host: host.replace(/^\[|\]$/g, ''), port: Number(port ?? (kind === 'sentinel' ? 26_379 : 6379)) }
    }),
    master: path,
    options: {
      db: database,
      ...(username && { username }),
      ...(password && { password }),
      ...(tls && { tls: {} }),
    },
  }
}

function connect(
  target: Target,
  extra: {
    enableOfflineQueue?: boolean
    enableAutoPipelining?: boolean
    maxRetriesPerRequest: number | null
    commandTimeout?: number
  },
) {
  // Quick at first, then twice a second: a Redis that comes back is noticed at once.
  const retryStrategy = (times: number) => Math.min(times * 50, 500)
  const options = { ...target.options, ...extra, connectTimeout: 5_000, keepAlive: 10_000, retryStrategy }
  const [node] = target.nodes
  const redis =
    target.kind === 'cluster'
      ? new Cluster(target.nodes, {
          redisOptions: options,
          clusterRetryStrategy: retryStrategy,
          enableOfflineQueue: extra.enableOfflineQueue ?? true,
        } as never)
      : new Redis(
          (target.kind === 'sentinel'
            ? { ...options, sentinels: target.nodes, name: target.master }
            : { ...options, ...node }) as never,
        )
  // Outages are reported by readiness and metrics; an unheard 'error' would end the process.
  redis.on('error', () => {})
  return redis
}

/** Two connections: one whose commands fail at once in an outage, one that waits it out for the workers. */
export function openRedis(options: RedisBackendOptions) {
  const target = parseRedisUrl(options.url)
  const commands = connect(target, { enableOfflineQueue: false, maxRetriesPerRequest: 0, commandTimeout: 10_000 })
  // Commands of the same moment travel together: under load a worker ends many rings at once.
  const blocking = connect(target, { maxRetriesPerRequest: null, enableAutoPipelining: true })
  return {
    commands,
    blocking,
    // The braces put every key of ours in one cluster slot, which BullMQ's scripts need.
    prefix: `{${options.prefix ?? 'website-worker'}}`,
    ready: () => commands.status === 'ready',
    onReady: (listener: () => void) => void commands.on('ready', listener),
    /** Waits for the connection, but not long. */
    async whenReady(timeoutMs: number) {
      if (commands.status === 'ready') return
      await new Promise<void>((resolve) => {
        const late = setTimeout(resolve, timeoutMs)
        commands.once('ready', () => {
          clearTimeout(late)
          resolve()
        })
      })
    },
    async close() {
      commands.disconnect()
      blocking.disconnect()
    },
  }
}

/** What the server says of itself that matters to a queue. */
export interface RedisFindings {
  version: string
  /** Reasons not to run on it. */
  refusals: string[]
  warnings: string[]
}

/** Judges a server's `INFO`: one that evicts keys loses rings without a word, so it is refused. */
export function judgeRedis(info: string): RedisFindings {
  const value = (name: string) => new RegExp(`^${name}:(.*)$`, 'm').exec(info)?.[1]?.trim()
  const version = value('redis_version') ?? 'unknown'
  const refusals: string[] = []
  const warnings: string[] = []
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (version !== 'unknown' && (major < 6 || (major === 6 && minor < 2)))
    refusals.push(`Redis ${version} is too old: 6.2 or newer`)
  const policy = value('maxmemory_policy')
  if (policy && policy !== 'noeviction') {
    refusals.push(`maxmemory-policy is ${policy}: a full Redis would drop queued work. Set it to noeviction`)
  }
  if (value('aof_enabled') === '0') {
    warnings.push('Redis keeps no append-only file: after its crash everything owed is rung again from Postgres')
  }
  return { version, refusals, warnings }
}

/** Asks a Redis how it is set up; undefined when it can't be reached in time. `timeoutMs` Default: 1500. */
export async function checkRedis(options: RedisBackendOptions, timeoutMs = 1_500): Promise<RedisFindings | undefined> {
  const redis = connect(parseRedisUrl(options.url), { maxRetriesPerRequest: null })
  let late: NodeJS.Timeout | undefined
  try {
    const info = await Promise.race([
      redis.info(),
      new Promise<undefined>((resolve) => {
        late = setTimeout(() => resolve(undefined), timeoutMs)
      }),
    ])
    return info === undefined ? undefined : judgeRedis(info)
  } finally {
    clearTimeout(late)
    redis.disconnect()
  }
}
