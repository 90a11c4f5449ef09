import { sql } from 'drizzle-orm'
import type { Erp } from '../fixtures/erp.ts'
import { askSync, failureLogs, openErp, openErpSite, readRuns, sync, syncEnds } from './erp-shop.ts'
import { demand, type Facts } from './judge.ts'
import type { Product } from './product.ts'
import { inWorld, type Scenario, type World } from './world.ts'

const total = 20
const token = 'the-token-of-the-environment'

/** Fails in one attempt, says so in the run and in the shop's log, and nothing is owed any more. */
async function failsOnce(
  world: World,
  product: Product,
  settings: Record<string, unknown>,
  says: RegExp,
): Promise<string> {
  const siteId = await openErpSite(world, settings)
  const ended = await syncEnds(product, await askSync(product, 'sync-products', { siteId }))
  demand(ended.state === 'failed', `it ended ${ended.state}`)
  demand(ended.attempts === 1, `it took ${ended.attempts} attempts`)
  const reason = ended.failedReason ?? ''
  demand(says.test(reason), `the reason is ${reason}`)
  demand(!reason.includes(token), 'the reason holds the token')
  const runs = await readRuns(world, siteId)
  demand(runs.length === 1 && runs[0]!.state === 'failed', `runs: ${JSON.stringify(runs)}`)
  const logs = await failureLogs(world, siteId)
  demand(logs.length === 1 && says.test(logs[0]!) && !logs[0]!.includes(token), `logs: ${logs.join('; ')}`)
  // Whole table; a scenario's is small.
  const { rows } = await world.db.execute(sql`
    SELECT state FROM website_worker.work WHERE job = 'sync-products' AND site_id = ${siteId}`)
  demand(rows.length === 1 && rows[0]!.state === 'failed', `work: ${JSON.stringify(rows)}`)
  return reason
}

const requestsOf = (erp: Erp) => erp.requests.map(({ headers }) => headers.authorization ?? 'none')

export const erpConfig: Scenario = {
  name: 'erp-config',
  title: 'an ERP that is set up wrong: one failed run in one attempt that says why, and its token goes nowhere else',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const own = await openErp(world, total, { token })
      const other = await openErp(world, total)
      const redis = await world.redis()
      const bare = await world.start('start', { REDIS_URL: redis.url, QUEUE_PREFIX: 'faults' })
      const facts: Facts = {}
      facts['no URL'] = await failsOnce(world, bare, {}, /url/i)
      facts['no token'] = await failsOnce(world, bare, { url: own.url }, /401/)
      const refused = { url: 'http://169.254.169.254/latest' }
      facts['a guarded address'] = await failsOnce(world, bare, refused, /refused|guard/i)
      const nowhere = { url: `http://${'x'.repeat(70)}.example` }
      facts['a host that can be none'] = await failsOnce(world, bare, nowhere, /host|name/i)
      const elsewhere = { url: other.url.replace('/erp', '/no/such/path') }
      other.onRequest(() => ({ status: 404, body: '<h1>Not here</h1>' }))
      facts['a host that has no ERP'] = await failsOnce(world, bare, elsewhere, /404/)
      facts['another scheme'] = await failsOnce(world, bare, { url: 'ftp://erp.example/' }, /http/i)
      facts['another provider'] = await failsOnce(
        world,
        bare,
        { url: other.url, provider: 'abacus' },
        /abacus|provider/i,
      )
      facts['a name that is no credential'] = await failsOnce(
        world,
        bare,
        { url: other.url, credentials: 'NOT_SET' },
        /CREDENTIAL_NOT_SET/,
      )
      demand(requestsOf(own).length === 1, `the ERP was asked ${requestsOf(own).length} times without a token`)
      demand(requestsOf(other).length === 1, `the wrong host was asked ${requestsOf(other).length} times`)
      await bare.stop()

      own.clearLog()
      other.clearLog()
      other.onRequest(() => 'serve')
      const port = new URL(other.url).port
      const product = await world.start('start', {
        REDIS_URL: redis.url,
        QUEUE_PREFIX: 'faults',
        ERP_URL: own.url,
        ERP_TOKEN: token,
        CREDENTIAL_ELSEWHERE: 'a-secret-for-another-host',
        CREDENTIAL_ELSEWHERE_HOSTS: 'erp.example',
        CREDENTIAL_HERE: 'a-secret-for-this-host',
        CREDENTIAL_HERE_HOSTS: `127.0.0.1:${port}`,
      })
      facts['a credential of another host'] = await failsOnce(
        world,
        product,
        { url: other.url, credentials: 'ELSEWHERE' },
        /CREDENTIAL_ELSEWHERE_HOSTS/,
      )
      demand(requestsOf(other).length === 0, 'a credential was taken where it may not go')
      await sync(product, 'sync-products', { siteId: await openErpSite(world, { url: other.url }) })
      demand(
        requestsOf(other).length > 0 && requestsOf(other).every((sent) => sent === 'none'),
        `a site's own ERP was sent ${requestsOf(other).join(', ')}`,
      )
      other.clearLog()
      const named = await openErpSite(world, { url: other.url, credentials: 'HERE' })
      await sync(product, 'sync-products', { siteId: named })
      demand(
        requestsOf(other).every((sent) => sent === 'Bearer a-secret-for-this-host'),
        `its credential is ${requestsOf(other).join(', ')}`,
      )
      await sync(product, 'sync-products', { siteId: await openErpSite(world, {}) })
      demand(
        requestsOf(own).length > 0 && requestsOf(own).every((sent) => sent === `Bearer ${token}`),
        'the ERP of the environment was not sent its token',
      )
      return facts
    }),
}
