import { eq, sql } from 'drizzle-orm'
import { createCredentials, type Credentials } from '../../src/clients/credentials.ts'
import { createGuard } from '../../src/clients/guard.ts'
import { createJsonCaller } from '../../src/clients/json-call.ts'
import { crmLeads, websiteForms, websiteFormSubmissions, websiteIntegrations, work } from '../../src/db/schema/index.ts'
import type { LeadSettings } from '../../src/processors/create-lead.ts'
import { processors } from '../../src/processors/index.ts'
import { catalog, type JobName } from '../../src/queues/index.ts'
import { createSite } from '../db/main-app.ts'
import { startCrm } from '../fixtures/crm.ts'
import { opened } from '../fixtures/open-fixtures.ts'
import { createStack, type StackOptions } from '../fixtures/stack.ts'

export interface LeadStackOptions extends Partial<Pick<LeadSettings, 'settleMs' | 'checkWaitsMs' | 'timeoutMs'>> {
  /** Waits before attempts of create-lead, ms. Default: 13 of 50. */
  waitsMs?: readonly number[]
  jobs?: readonly JobName[]
  backend?: StackOptions['backend']
  credentials?: Credentials
  /** More that processors are given. */
  deps?: Record<string, unknown>
}

/** A site with a form and a CRM on loopback, and everything from a submission to a lead; waits are short. */
export async function createLeadStack(options: LeadStackOptions = {}) {
  const { timeoutMs = 400, settleMs = 400, waitsMs = [0, ...Array<number>(12).fill(50)] } = options
  const crm = await startCrm()
  const caller = createJsonCaller({
    guard: createGuard({ allowCidrs: ['127.0.0.1/32'] }),
    timeoutMs,
    freshConnections: true,
  })
  const closed = opened('caller')
  const deps: Record<string, unknown> = {
    leads: {
      caller,
      credentials: options.credentials ?? createCredentials(),
      timeoutMs,
      settleMs,
      retry: { waitsMs },
      ...(options.checkWaitsMs && { checkWaitsMs: options.checkWaitsMs }),
    } satisfies LeadSettings,
    ...options.deps,
  }
  const definition = (name: JobName) => ({ ...catalog[name], retry: { waitsMs } })
  const jobs = (options.jobs ?? ['create-lead', 'check-lead']).map((name) => ({
    definition: definition(name),
    processor: processors[name] as never,
  }))
  const stack = await createStack({
    backend: options.backend ?? 'redis',
    jobs,
    deps,
  })
  const { db } = stack
  deps.db = db
  const siteId = await createSite(db)

  async function form(values: Partial<typeof websiteForms.$inferInsert> = {}): Promise<number> {
    const slug = Math.random().toString(36).slice(2)
    const row = { siteId, name: 'Contact', slug, fields: [], emailNotifications: false, ...values }
    const [made] = await db.insert(websiteForms).values(row).returning({ id: websiteForms.id })
    return made!.id
  }
  async function integration(values: Partial<typeof websiteIntegrations.$inferInsert> = {}): Promise<number> {
    const row = { siteId, type: 'crm' as const, provider: 'http', name: 'Sales', config: { url: crm.url }, ...values }
    const [made] = await db.insert(websiteIntegrations).values(row).returning({ id: websiteIntegrations.id })
    return made!.id
  }
  async function submit(formId: number, n = 1, data: unknown = { name: 'Ann', email: 'ann@example.com' }) {
    const { rows } = await db.execute(
      sql`INSERT INTO website_form_submissions (form_id, data)
          SELECT ${formId}, ${JSON.stringify(data)}::jsonb FROM generate_series(1, ${n}::int) RETURNING id`,
    )
    return rows.map((row) => Number(row.id))
  }

  return {
    ...stack,
    crm,
    siteId,
    form,
    integration,
    submit,
    async submission(id: number) {
      const [row] = await db.select().from(websiteFormSubmissions).where(eq(websiteFormSubmissions.id, id))
      return row!
    },
    async lead(id: number) {
      const [row] = await db.select().from(crmLeads).where(eq(crmLeads.submissionId, id))
      return row
    },
    async items(job: JobName = 'create-lead') {
      return db.select().from(work).where(eq(work.job, job)).orderBy(work.id)
    },
    /** How many submissions stand at each status. */
    async statuses() {
      const { rows } = await db.execute(
        sql`SELECT status, count(*)::int AS n FROM website_form_submissions GROUP BY status ORDER BY status`,
      )
      return Object.fromEntries(rows.map((row) => [row.status, row.n])) as Record<string, number>
    },
    async close() {
      await stack.close()
      await caller.close()
      closed()
      await crm.close()
    },
  }
}

export type LeadStack = Awaited<ReturnType<typeof createLeadStack>>
