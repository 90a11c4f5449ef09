import { sql, type SQL } from 'drizzle-orm'
import type { Db } from '../../db/client.ts'
import { holdReasons } from '../../queues/hold-reasons.ts'

const batchSize = 5_000

/** Why a site's or a domain's switch holds items. */
const bySwitch = [holdReasons.domainOff, holdReasons.paused]

/** Why the state of a site's own row holds items. */
const bySite = [holdReasons.siteInactive, holdReasons.siteInMaintenance, holdReasons.siteDeleted]

/** Held items that lie side by side in work_held. */
interface HeldGroup {
  job: string
  siteId: number | null
  reason: string
  /** Items up to this id have been looked at. */
  afterId: number
}

/**
 * Holds what is owed of some jobs at a site, a batch a statement; what is already running ends first, and what was
 * missed is held when it is about to run. Returns how many.
 */
export async function holdSite(db: Db, jobs: readonly string[], siteId: number, reason: string): Promise<number> {
  const ofSite = sql`job = ANY (${sql.param(jobs)}::text[]) AND site_id = ${siteId}`
  // work_owed_unrung, work_parked, work_owed_rung: read once, since no index tells the site.
  const { rows } = await db.execute(
    sql`SELECT array_agg(id ORDER BY id)::text AS ids FROM (
          SELECT id FROM website_worker.work WHERE state = 'owed' AND rung_at IS NULL AND lane IS NULL AND ${ofSite}
          UNION ALL
          SELECT id FROM website_worker.work WHERE state = 'owed' AND rung_at IS NULL AND lane IS NOT NULL AND ${ofSite}
          UNION ALL
          SELECT id FROM website_worker.work WHERE state = 'owed' AND rung_at IS NOT NULL AND ${ofSite}) owed`,
  )
  const ids = ((rows[0]?.ids as string | null) ?? '{}').slice(1, -1).split(',').filter(Boolean)
  let held = 0
  for (let from = 0; from < ids.length; from += batchSize) {
    // Primary key; locked in id order, as every transition of many rows does.
    const { rowCount } = await db.execute(
      sql`WITH locked AS MATERIALIZED (
            SELECT id FROM website_worker.work
            WHERE id = ANY (${sql.param(ids.slice(from, from + batchSize))}::bigint[]) AND state = 'owed'
            ORDER BY id FOR UPDATE)
          UPDATE website_worker.work w
          SET state = 'held', reason = ${reason}, generation = generation + 1, rung_at = NULL
          WHERE w.id = ANY (ARRAY(SELECT id FROM locked))`,
    )
    held += rowCount ?? 0
  }
  return held
}

interface HeldPair {
  job: string
  siteId: number | null
  /** Some webhook of the site is on. */
  hasWebhook: boolean
  /** The site is active, or gone with all that was its own. */
  siteIsOpen: boolean
}

/** Whether the row of a site keeps nothing back. */
const siteIsOpen = (siteId: SQL) => sql`NOT EXISTS (
  SELECT FROM public.website_sites s WHERE s.id = ${siteId} AND (s.deleted_at IS NOT NULL OR s.status <> 'active'))`

/** The (job, site) pairs that something is held of and no switch holds: one probe of the index for each pair. */
async function freePairs(db: Db): Promise<HeldPair[]> {
  // work_held, site by site: within a job sites come before no site at all. Then the primary keys of jobs and domains,
  // idx_website_webhooks_site_id and website_sites_pkey.
  const { rows } = await db.execute(
    sql`WITH RECURSIVE pairs AS (
          (SELECT job, site_id FROM website_worker.work WHERE state = 'held' ORDER BY job, site_id LIMIT 1)
          UNION ALL
          SELECT n.job, n.site_id FROM pairs p CROSS JOIN LATERAL (
            SELECT * FROM (
              (SELECT 1 AS turn, job, site_id FROM website_worker.work
               WHERE state = 'held' AND job = p.job AND site_id > p.site_id ORDER BY site_id LIMIT 1)
              UNION ALL
              (SELECT 2, job, site_id FROM website_worker.work
               WHERE state = 'held' AND job = p.job AND site_id IS NULL AND p.site_id IS NOT NULL LIMIT 1)
              UNION ALL
              (SELECT 3, job, site_id FROM website_worker.work
               WHERE state = 'held' AND job > p.job ORDER BY job, site_id LIMIT 1)) next
            ORDER BY turn LIMIT 1) n)
        SELECT p.job, p.site_id, p.job = 'deliver-webhook' AND EXISTS (
                 SELECT FROM public.website_webhooks h WHERE h.site_id = p.site_id AND h.is_active) AS has_webhook,
               ${siteIsOpen(sql`p.site_id`)} AS site_is_open
        FROM pairs p JOIN website_worker.jobs j ON j.job = p.job
        WHERE website_worker.hold_reason(j.domain, p.site_id) IS NULL`,
  )
  return rows.map((row) => ({
    job: row.job as string,
    siteId: row.site_id as number | null,
    hasWebhook: row.has_webhook as boolean,
    siteIsOpen: row.site_is_open as boolean,
  }))
}

/**
 * Looks at one batch of some groups and owes again what nothing holds any more.
 * @returns the groups that hold more than was looked at, and how many items were released.
 */
async function releaseBatch(db: Db, groups: readonly HeldGroup[]): Promise<{ more: HeldGroup[]; released: number }> {
  const column = <T>(pick: (group: HeldGroup) => T, type: string) =>
    sql`${sql.param(groups.map(pick))}::${sql.raw(type)}[]`
  const each = Math.ceil(batchSize / groups.length)
  const held = sql`w.state = 'held' AND w.job = g.job AND w.reason = g.reason AND w.id > g.after_id`
  // work_held for each group, with a branch of its own for items of no site; then the primary keys of the item, its
  // delivery and its webhook. The switch is asked here, since it may have been turned meanwhile.
  const { rows } = await db.execute(
    sql`WITH groups AS MATERIALIZED (
          SELECT g.* FROM unnest(
            ${column((g) => g.job, 'text')}, ${column((g) => g.siteId, 'int')}, ${column((g) => g.reason, 'text')},
            ${column((g) => g.afterId, 'bigint')}) WITH ORDINALITY AS g(job, site_id, reason, after_id, n)
          JOIN website_worker.jobs j ON j.job = g.job
          WHERE website_worker.hold_reason(j.domain, g.site_id) IS NULL),
        picked AS MATERIALIZED (
          SELECT g.n, p.id FROM groups g CROSS JOIN LATERAL (
            (SELECT w.id FROM website_worker.work w WHERE ${held} AND w.site_id = g.site_id ORDER BY w.id LIMIT ${each})
            UNION ALL
            (SELECT w.id FROM website_worker.work w WHERE ${held} AND w.site_id IS NULL AND g.site_id IS NULL
             ORDER BY w.id LIMIT ${each})) p),
        locked AS MATERIALIZED (
          SELECT w.id FROM website_worker.work w
          WHERE w.id = ANY (ARRAY(SELECT id FROM picked)) AND w.state = 'held'
            AND (w.reason = ANY (${sql.param(bySwitch)}::text[])
              OR w.reason = ANY (${sql.param(bySite)}::text[]) AND ${siteIsOpen(sql`w.site_id`)}
              OR w.reason = ${holdReasons.webhookDisabled} AND EXISTS (
              SELECT FROM public.website_webhook_deliveries d JOIN public.website_webhooks h ON h.id = d.webhook_id
              WHERE h.is_active AND d.id = CASE WHEN w.payload ->> 'deliveryId' ~ '^[0-9]{1,10}$'
                                                THEN (w.payload ->> 'deliveryId')::bigint END))
          ORDER BY w.id FOR UPDATE OF w SKIP LOCKED),
        released AS (
          UPDATE website_worker.work w
          SET state = 'owed', reason = NULL, generation = w.generation + 1, rung_at = NULL,
              next_at = greatest(w.next_at, now())
          WHERE w.id = ANY (ARRAY(SELECT id FROM locked)) RETURNING w.id)
        SELECT p.n, count(*)::int AS picked, max(p.id) AS last, (SELECT count(*) FROM released)::int AS released
        FROM picked p GROUP BY p.n`,
  )
  return {
    released: (rows[0]?.released as number | undefined) ?? 0,
    more: rows
      .filter((row) => row.picked === each)
      .map((row) => ({ ...groups[Number(row.n) - 1]!, afterId: Number(row.last) })),
  }
}

/** Goes through groups until all are done or the time is over; takes those it is done with out of the list. */
async function releaseGroups(db: Db, groups: HeldGroup[], budgetMs: number): Promise<number> {
  const until = performance.now() + budgetMs
  let released = 0
  do {
    const some = groups.slice(0, 50)
    if (some.length === 0) break
    const batch = await releaseBatch(db, some)
    groups.splice(0, some.length, ...batch.more)
    released += batch.released
  } while (performance.now() < until)
  return released
}

const groupsOf = (pairs: readonly Pick<HeldPair, 'job' | 'siteId'>[], reasons: readonly string[]): HeldGroup[] =>
  pairs.flatMap(({ job, siteId }) => reasons.map((reason) => ({ job, siteId, reason, afterId: 0 })))

/** Owes again what the switch of a site held, for as long as `budgetMs`; the dispatcher does the rest. Returns how many. */
export function releaseSite(db: Db, jobs: readonly string[], siteId: number, budgetMs = 5_000): Promise<number> {
  const pairs = jobs.map((job) => ({ job, siteId }))
  return releaseGroups(db, groupsOf(pairs, bySwitch), budgetMs)
}

/**
 * Owes again what a site, a domain or a webhook held and no longer holds. Switches are asked at every call, because an
 * event accepted in a transaction that began before a switch was turned may have been held after it. What waits for
 * webhooks is walked through from call to call, since most of them stay off. `budgetMs` Default: 300, for each of both.
 */
export function createReleaseSweep(deps: { db: Db }, options: { budgetMs?: number } = {}): () => Promise<number> {
  const { budgetMs = 300 } = options
  let ofWebhooks: HeldGroup[] = []

  return async function sweep() {
    const pairs = await freePairs(deps.db)
    if (ofWebhooks.length === 0)
      ofWebhooks = groupsOf(
        pairs.filter((pair) => pair.hasWebhook),
        [holdReasons.webhookDisabled],
      )
    const ofSites = groupsOf(
      pairs.filter((pair) => pair.siteIsOpen),
      bySite,
    )
    const released = await releaseGroups(deps.db, [...groupsOf(pairs, bySwitch), ...ofSites], budgetMs)
    return released + (await releaseGroups(deps.db, ofWebhooks, budgetMs))
  }
}
