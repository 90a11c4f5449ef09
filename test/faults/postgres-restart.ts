import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { isAlive } from '../../src/db/embedded/processes.ts'
import { makeScratch, removeScratch } from '../fixtures/scratch.ts'
import { demand, type Facts, until } from './judge.ts'
import { readiness } from './product.ts'
import { allDelivered, distinctIds, openShop, sendEvent, sendEvents } from './shop.ts'
import { inWorld, type Scenario, type Setting } from './world.ts'

const total = 100

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((each) => {
      try {
        // After the command's closing parenthesis: state, parent.
        return Number(readFileSync(`/proc/${each}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[1]) === pid
      } catch {
        return false
      }
    })
}

/** A PostgreSQL that can be killed with everything it runs, and come back on its port. */
async function startMortalPostgres() {
  const folder = makeScratch()
  const clean = () => removeScratch(folder)
  process.on('exit', clean)
  const dataDir = join(folder, 'postgres')
  let server = await startEmbeddedPostgres({ dataDir })
  const port = Number(new URL(server.url).port)
  return {
    url: server.url,
    async kill() {
      const pids = [server.pid, ...childrenOf(server.pid)]
      for (const pid of pids) process.kill(pid, 'SIGKILL')
      await until('the server is gone', 5_000, () => !pids.some(isAlive))
    },
    async restart() {
      server = await startEmbeddedPostgres({ dataDir, port })
    },
    async stop() {
      await server.stop()
      process.off('exit', clean)
      clean()
    },
  }
}

function survive(setting: Setting, backend: 'redis' | 'postgres'): Promise<Facts> {
  return inMortalWorld(setting, async (world, postgres) => {
    const receiver = await world.receiver(() => ({ status: 204, delayMs: 500 }))
    const siteId = await openShop(world, receiver.url)
    const env: Record<string, string> = { WEBHOOK_CONCURRENCY: '20' }
    if (backend === 'redis') env['REDIS_URL'] = (await world.redis()).url
    const product = await world.start('start', env)
    await sendEvents(product, siteId, 'before_', total)
    await receiver.waitFor(30)
    await postgres.kill()
    const refusals = []
    for (let n = 1; n <= 5; n++) refusals.push(await sendEvent(product, siteId, `refused_${n}`))
    const wrong = refusals.find(
      ({ status, contentType }) => status !== 503 || !contentType.startsWith('application/problem+json'),
    )
    demand(wrong === undefined, `while Postgres was away: ${JSON.stringify(wrong)}`)
    const slowestRefusalMs = Math.round(Math.max(...refusals.map(({ ms }) => ms)))
    demand(slowestRefusalMs < 6_000, `a refusal took ${slowestRefusalMs} ms`)
    const { httpStatus } = await readiness(product)
    demand(httpStatus === 503, `/readyz while Postgres was away: ${httpStatus}`)
    // What was being sent is answered by now, and nobody could write it down.
    await until('the answers under way', 5_000, () =>
      receiver.requests.every(({ at }) => Date.now() - at.getTime() > 1_500),
    )
    const sentBefore = receiver.requests.length
    await postgres.restart()
    const backToDeliveredMs = await allDelivered(world, total, 60_000)
    demand(distinctIds(receiver) === total, `${distinctIds(receiver)} distinct ids`)
    const extraPosts = receiver.requests.length - total
    demand(extraPosts === 0, `${extraPosts} deliveries that had a 2xx were made again`)
    demand(product.isRunning(), 'the process ended')
    const { status } = await sendEvent(product, siteId, 'after')
    demand(status === 202, `after Postgres came back an event got ${status}`)
    await allDelivered(world, total + 1, 10_000)
    return { slowestRefusalMs, sentBefore, backToDeliveredMs, extraPosts }
  })
}

/** Every connection of the worker is cut, over and over, while deliveries are made and recorded. */
function outliveCuts(setting: Setting, backend: 'redis' | 'postgres'): Promise<Facts> {
  return inWorld(setting, async (world) => {
    const events = 300
    const receiver = await world.receiver(() => ({ status: 204, delayMs: 50 }))
    const siteId = await openShop(world, receiver.url)
    const env: Record<string, string> = { WEBHOOK_CONCURRENCY: '10' }
    if (backend === 'redis') env['REDIS_URL'] = (await world.redis()).url
    const product = await world.start('start', env)
    await sendEvents(product, siteId, 'cut_', events)
    let cuts = 0
    for (let share = 1; share <= 20; share++) {
      await receiver.waitFor((events * share) / 25, 60_000)
      const { rows } = await world.db.execute(sql`
        SELECT count(pg_terminate_backend(pid))::int AS n FROM pg_stat_activity
        WHERE datname = current_database() AND application_name <> 'faults' AND pid <> pg_backend_pid()`)
      cuts += rows[0]?.n as number
    }
    const deliveredMs = await allDelivered(world, events, 60_000)
    demand(product.isRunning(), 'the process ended')
    const extraPosts = receiver.requests.length - events
    demand(extraPosts === 0, `${extraPosts} deliveries that had a 2xx were made again`)
    return { cuts, cutToDeliveredMs: deliveredMs, extraPostsOfCuts: extraPosts }
  })
}

type MortalPostgres = Awaited<ReturnType<typeof startMortalPostgres>>

async function inMortalWorld(
  setting: Setting,
  work: (world: Parameters<Parameters<typeof inWorld>[1]>[0], postgres: MortalPostgres) => Promise<Facts>,
): Promise<Facts> {
  const postgres = await startMortalPostgres()
  try {
    return await inWorld(setting, (world) => work(world, postgres), { databaseUrl: postgres.url })
  } finally {
    await postgres.stop()
  }
}

export const postgresRestart: Scenario = {
  name: 'postgres-restart',
  title:
    'Postgres killed, and its connections cut, with deliveries under way: 503 meanwhile, then all delivered, none twice',
  async run(setting) {
    const facts: Facts = {}
    for (const backend of setting.small ? (['redis'] as const) : (['redis', 'postgres'] as const)) {
      const measured = { ...(await survive(setting, backend)), ...(await outliveCuts(setting, backend)) }
      for (const [name, value] of Object.entries(measured)) facts[`${backend}.${name}`] = value
    }
    return facts
  },
}
