import { and, eq, isNull } from 'drizzle-orm'
import type { Db } from '../client.ts'
import { websiteWebhooks } from '../schema/integrations.ts'
import { websiteSites } from '../schema/sites.ts'
import { webhookHealth } from '../schema/worker.ts'

/** A webhook and what the worker knows of it; never its secret or headers. */
export async function findWebhook(db: Db, id: number) {
  // Primary keys of both.
  const [row] = await db
    .select({
      id: websiteWebhooks.id,
      siteId: websiteWebhooks.siteId,
      name: websiteWebhooks.name,
      event: websiteWebhooks.event,
      targetUrl: websiteWebhooks.targetUrl,
      isActive: websiteWebhooks.isActive,
      failingSince: webhookHealth.failingSince,
      lastSuccessAt: webhookHealth.lastSuccessAt,
      lastFailureAt: webhookHealth.lastFailureAt,
      disabledAt: webhookHealth.disabledAt,
      disabledReason: webhookHealth.disabledReason,
    })
    .from(websiteWebhooks)
    .leftJoin(webhookHealth, eq(webhookHealth.webhookId, websiteWebhooks.id))
    .where(eq(websiteWebhooks.id, id))
  return row
}

export type WebhookRow = NonNullable<Awaited<ReturnType<typeof findWebhook>>>

/** Whether a webhook is there. */
export async function webhookExists(db: Db, id: number): Promise<boolean> {
  // Primary key.
  const rows = await db.select({ id: websiteWebhooks.id }).from(websiteWebhooks).where(eq(websiteWebhooks.id, id))
  return rows.length > 0
}

/** Whether a site is there and not deleted. */
export async function siteExists(db: Db, id: number): Promise<boolean> {
  // Primary key.
  const rows = await db
    .select({ id: websiteSites.id })
    .from(websiteSites)
    .where(and(eq(websiteSites.id, id), isNull(websiteSites.deletedAt)))
  return rows.length > 0
}
