import { createClient } from '../src/client/index.ts'
import { parseConfig } from '../src/config.ts'
import { createDatabase, type Db } from '../src/db/client.ts'
import { websiteWebhooks } from '../src/db/schema/integrations.ts'
import { websiteSites } from '../src/db/schema/sites.ts'
import { keepHeapSmall } from '../src/heap.ts'
import { start } from '../src/main.ts'
import { createLogger } from '../src/resources.ts'

const apiKey = 'bench-secret-bench-secret'

/** API and worker in this process, as users run them, with a client and a connection of the bench's own. */
export async function startProduct(options: { databaseUrl: string; redisUrl: string; env?: Record<string, string> }) {
  keepHeapSmall()
  const config = parseConfig({
    DATABASE_URL: options.databaseUrl,
    REDIS_URL: options.redisUrl,
    API_KEYS: `bench:${apiKey}`,
    HOST: '127.0.0.1',
    PORT: '0',
    OUTBOUND_ALLOW_CIDRS: '127.0.0.0/8',
    ...options.env,
  })
  const running = await start({ config, log: createLogger('error') })
  const { db, close } = createDatabase({ url: options.databaseUrl, max: 2 })
  return {
    db,
    client: createClient({ url: running.url ?? '', apiKey }),
    async stop() {
      await close()
      await running.stop()
    },
  }
}

export const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

/** A site whose orders go to a receiver. */
export async function makeSite(db: Db, url: string): Promise<number> {
  const [site] = await db
    .insert(websiteSites)
    .values({ name: 'bench', domain: `${Math.random()}.example` })
    .returning({ id: websiteSites.id })
  await db
    .insert(websiteWebhooks)
    .values({ siteId: site?.id ?? 0, name: 'bench', event: 'order.created', targetUrl: url, secret })
  return site?.id ?? 0
}
