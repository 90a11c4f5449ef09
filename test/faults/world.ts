import { createDatabase, type Db } from '../../src/db/client.ts'
import { migrateAll } from '../../src/resources.ts'
import { startReceiver, type Answerer, type Receiver } from '../fixtures/receiver.ts'
import { startRedis, type RedisServer } from '../fixtures/redis.ts'
import { cloneDatabase } from '../fixtures/services.ts'
import type { Facts } from './judge.ts'
import { becomesReady, complaints, spawnProduct, type Product, type Role } from './product.ts'

/** Where and how large a scenario runs. */
export interface Setting {
  /** Superuser of a PostgreSQL whose template is migrated. */
  postgresUrl: string
  /** Fewer repetitions and variants, for every test run; numbers that are promised stay. */
  small: boolean
}

export interface Scenario {
  name: string
  /** What must be true. */
  title: string
  /** Rejects when it isn't; resolves with what was measured. */
  run(setting: Setting): Promise<Facts>
}

/** The API's key in every world. */
export const apiKey = 'faults-key-0123456789'

/** A database, services and processes of one scenario's own. */
export interface World {
  databaseUrl: string
  db: Db
  /** Ends with the world, last first. */
  defer(release: () => Promise<unknown>): void
  redis(args?: string[]): Promise<RedisServer>
  /** Default port: a free one. */
  receiver(answerer?: Answerer, port?: number): Promise<Receiver>
  /** Starts a process on the world's database and waits until it is ready. */
  start(role: Role, env?: Record<string, string>): Promise<Product>
  /** Starts one without waiting. */
  spawn(role: Role, env?: Record<string, string>): Product
}

/** Runs `work` in a world of its own; whatever happens, nothing of it is left. */
export async function inWorld<T>(
  setting: Setting,
  work: (world: World) => Promise<T>,
  options: { databaseUrl?: string } = {},
): Promise<T> {
  const releases: (() => Promise<unknown>)[] = []
  const products: Product[] = []
  const defer: World['defer'] = (release) => void releases.push(release)

  async function open(): Promise<World> {
    let databaseUrl = options.databaseUrl
    if (!databaseUrl) {
      const clone = await cloneDatabase(setting.postgresUrl)
      defer(clone.drop)
      databaseUrl = clone.url
    }
    await migrateAll(databaseUrl)
    const database = createDatabase({ url: databaseUrl, applicationName: 'faults' })
    defer(database.close)
    const spawn: World['spawn'] = (role, env = {}) => {
      const product = spawnProduct(role, {
        DATABASE_URL: databaseUrl,
        HOST: '127.0.0.1',
        PORT: '0',
        API_KEYS: `faults:${apiKey}`,
        OUTBOUND_ALLOW_CIDRS: '127.0.0.0/8',
        ...env,
      })
      products.push(product)
      defer(product.kill)
      return product
    }
    return {
      databaseUrl,
      db: database.db,
      defer,
      async redis(args) {
        const redis = await startRedis(args)
        defer(redis.stop)
        return redis
      },
      async receiver(answerer, port) {
        const receiver = await startReceiver(answerer, port)
        defer(receiver.close)
        return receiver
      },
      async start(role, env) {
        const product = spawn(role, env)
        await becomesReady(product)
        return product
      },
      spawn,
    }
  }

  try {
    return await work(await open())
  } catch (error) {
    const said = products.map((product) => `--- ${product.role} ${product.pid}\n${complaints(product)}`).join('\n')
    throw new Error(`${(error as Error).message}\n${said}`, { cause: error })
  } finally {
    for (const release of releases.toReversed()) await release().catch(() => {})
  }
}
