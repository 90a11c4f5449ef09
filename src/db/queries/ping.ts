import { eq } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { websiteWebhooks } from '../schema/integrations.ts'

/** Where a test message goes and what signs it; for the worker alone, since it holds the secret. */
export async function findPingTarget(db: Db, webhookId: number) {
  // Primary key.
  const [row] = await db
    .select({
      siteId: websiteWebhooks.siteId,
      targetUrl: websiteWebhooks.targetUrl,
      secret: websiteWebhooks.secret,
      headers: websiteWebhooks.headers,
    })
    .from(websiteWebhooks)
    .where(eq(websiteWebhooks.id, webhookId))
  return row
}
