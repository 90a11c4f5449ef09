import { and, asc, eq, exists, max, not, sql } from 'drizzle-orm'
import { alias, type PgColumn } from 'drizzle-orm/pg-core'
import { AppError } from '../errors.ts'
import { type Domain, domains as domainNames } from '../queues/define-job.ts'
import { transact, type Db, type Tx } from './client.ts'
import {
  domains,
  websiteFormSubmissions,
  websiteOrders,
  websiteSites,
  websiteWebhookDeliveries,
} from './schema/index.ts'

/** The site id that stands for every site. */
export const allSites = 0

/** Switches of a domain at a site, or at all of them (site 0). */
export interface DomainSwitch {
  domain: string
  siteId: number
  enabled: boolean
  paused: boolean
  /** Source rows up to this id are not owed; for publishing, pages due up to this instant, ms since 1970. */
  watermark: number
}

const sources: Partial<Record<Domain, PgColumn>> = {
  webhooks: websiteWebhookDeliveries.id,
  leads: websiteFormSubmissions.id,
  notifications: websiteFormSubmissions.id,
  erp: websiteOrders.id,
}

const columns = {
  domain: domains.domain,
  siteId: domains.siteId,
  enabled: domains.enabled,
  paused: domains.paused,
  watermark: domains.watermark,
}

/** Every switch, by domain, all sites first. */
export function listDomains(db: Db): Promise<DomainSwitch[]> {
  return db.select(columns).from(domains).orderBy(asc(domains.domain), asc(domains.siteId))
}

/** Switches a domain on. What stands in the database is not owed: going from off to on sets the watermark. */
export function enableDomain(db: Db, domain: Domain, siteId = allSites): Promise<DomainSwitch> {
  return changeSwitch(db, domain, siteId, async (tx, before) =>
    before.enabled ? {} : { enabled: true, watermark: await watermarkNow(tx, domain) },
  )
}

/** Switches a domain off; a site that was switched by itself keeps its own setting. */
export function disableDomain(db: Db, domain: Domain, siteId = allSites): Promise<DomainSwitch> {
  return changeSwitch(db, domain, siteId, async () => ({ enabled: false }))
}

/** Holds a site's work of a domain; what comes in meanwhile is still owed. */
export function pauseDomain(db: Db, siteId: number, domain: Domain): Promise<DomainSwitch> {
  return changeSwitch(db, domain, siteId, async () => ({ paused: true }))
}

/** Lets a site's work of a domain go on. */
export async function resumeDomain(db: Db, siteId: number, domain: Domain): Promise<DomainSwitch> {
  const after = await changeSwitch(db, domain, siteId, async () => ({ paused: false }))
  if (siteId !== allSites) await forgetCopy(db, domain, siteId)
  return after
}

// A row that was made to pause a site must not outlive the pause: it would shield the site from a later `disable`.
async function forgetCopy(db: Db, domain: Domain, siteId: number): Promise<void> {
  const all = alias(domains, 'all_sites')
  const copied = db
    .select({ same: sql`1` })
    .from(all)
    .where(
      and(
        eq(all.domain, domain),
        eq(all.siteId, allSites),
        all.enabled,
        not(all.paused),
        eq(all.watermark, domains.watermark),
      ),
    )
  await db.delete(domains).where(and(rowOf(domain, siteId), domains.enabled, not(domains.paused), exists(copied)))
}

async function watermarkNow(tx: Tx, domain: Domain): Promise<number> {
  if (domain === 'publishing') {
    // A page is made long before it is due, so its id says nothing.
    const { rows } = await tx.execute(sql`SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms`)
    return rows[0]?.ms as number
  }
  const source = sources[domain]
  if (!source) return 0
  // The source table's primary key.
  const [row] = await tx.select({ highest: max(source) }).from(source.table)
  return Number(row?.highest ?? 0)
}

type Change = Partial<Pick<DomainSwitch, 'enabled' | 'paused' | 'watermark'>>

async function changeSwitch(
  db: Db,
  domain: Domain,
  siteId: number,
  change: (tx: Tx, before: DomainSwitch) => Promise<Change>,
): Promise<DomainSwitch> {
  if (!domainNames.includes(domain)) {
    throw new AppError('invalid', `unknown domain ${domain}; there are ${domainNames.join(', ')}`, { field: 'domain' })
  }
  return transact(db, async (tx) => {
    const before = await lockSwitch(tx, domain, siteId)
    const changes = await change(tx, before)
    const after = { ...before, ...changes }
    const changed = (Object.keys(changes) as (keyof Change)[]).some((key) => after[key] !== before[key])
    if (changed) {
      await tx
        .update(domains)
        .set({ ...changes, changedAt: sql`now()` })
        .where(rowOf(domain, siteId))
    }
    return after
  })
}

const rowOf = (domain: string, siteId: number) => and(eq(domains.domain, domain), eq(domains.siteId, siteId))

// A site's first row repeats what held for it until now, so that changing one switch leaves the others as they were.
async function lockSwitch(tx: Tx, domain: Domain, siteId: number): Promise<DomainSwitch> {
  const on = { enabled: true, paused: false, watermark: 0 }
  await tx
    .insert(domains)
    .values({ domain, siteId: allSites, ...on })
    .onConflictDoNothing()
  const [all] = await tx.select(columns).from(domains).where(rowOf(domain, allSites)).for('update')
  if (siteId !== allSites) {
    const [site] = await tx.select({ id: websiteSites.id }).from(websiteSites).where(eq(websiteSites.id, siteId))
    if (!site) throw new AppError('not_found', `there is no site ${siteId}`, { field: 'siteId' })
    await tx
      .insert(domains)
      .values({ ...on, ...all, domain, siteId })
      .onConflictDoNothing()
  }
  const [row] = await tx.select(columns).from(domains).where(rowOf(domain, siteId)).for('update')
  if (!row) throw new AppError('conflict', `the switch of ${domain} at site ${siteId} was removed meanwhile`)
  return row
}
