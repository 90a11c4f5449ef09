import { sql } from 'drizzle-orm'
import { websiteForms, websiteIntegrations, websiteSites } from '../../src/db/schema/index.ts'
import { startCrm, type Crm, type CrmMood } from '../fixtures/crm.ts'
import { demand, until, type Facts } from './judge.ts'
import type { Product } from './product.ts'
import { apiKey, inWorld, type Scenario, type World } from './world.ts'

/** A CRM that has done with a call soon after its deadline. */
const patience = { CRM_TIMEOUT_MS: '1500', CRM_SETTLE_MS: '1500' }

/** A form whose submissions go to a CRM on loopback. */
async function openForm(world: World): Promise<{ crm: Crm; formId: number }> {
  const crm = await startCrm()
  world.defer(crm.close)
  const [site] = await world.db
    .insert(websiteSites)
    .values({ name: 'Shop', domain: `${crypto.randomUUID()}.example` })
    .returning({ id: websiteSites.id })
  const siteId = site!.id
  const config = { url: crm.url }
  await world.db.insert(websiteIntegrations).values({ siteId, type: 'crm', provider: 'http', name: 'Sales', config })
  const [form] = await world.db
    .insert(websiteForms)
    .values({ siteId, name: 'Contact', slug: 'contact', fields: [], emailNotifications: false })
    .returning({ id: websiteForms.id })
  return { crm, formId: form!.id }
}

async function submit(world: World, formId: number, n: number): Promise<number[]> {
  const { rows } = await world.db.execute(
    sql`INSERT INTO website_form_submissions (form_id, data)
        SELECT ${formId}, jsonb_build_object('name', 'Visitor ' || g) FROM generate_series(1, ${n}::int) g RETURNING id`,
  )
  return rows.map((row) => Number(row.id))
}

async function askFor(api: Product, submissionId: number): Promise<void> {
  const response = await fetch(`${api.url}/v1/jobs/create-lead`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ submissionId }),
  })
  await response.arrayBuffer()
  demand(response.status === 202, `create-lead got ${response.status}`)
}

/** Waits until every submission is converted; ms. */
function allConverted(world: World, timeoutMs: number): Promise<number> {
  let seen: unknown
  return until(
    'all submissions are converted',
    timeoutMs,
    async () => {
      // Whole tables; a scenario's are small.
      const { rows } = await world.db.execute(
        sql`SELECT count(*) FILTER (WHERE s.status <> 'converted')::int AS left,
              (SELECT count(*)::int FROM website_worker.work WHERE job = 'create-lead' AND state IN ('owed', 'running', 'held')) AS unfinished
            FROM website_form_submissions s`,
      )
      seen = rows[0]
      return rows[0]?.left === 0 && rows[0]?.unfinished === 0
    },
    () => seen,
  )
}

function demandOneEach(crm: Crm, submissions: number): void {
  const times = crm.byReference()
  const twice = [...times].filter(([, count]) => count > 1).map(([reference]) => reference)
  demand(twice.length === 0, `leads made twice: ${twice.join(', ')}`)
  demand(times.size === submissions, `${times.size} of ${submissions} leads`)
}

const total = 200

export const leadStorm: Scenario = {
  name: 'lead-storm',
  title: '200 submissions asked for twice, a FLUSHALL and a kill -9 in the middle: 200 leads',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const redis = await world.redis()
      const env = { ...patience, REDIS_URL: redis.url }
      const { crm, formId } = await openForm(world)
      crm.delay(200)
      const api = await world.start('api', env)
      const ids = await submit(world, formId, total)
      const asking = Promise.all(ids.map((id) => askFor(api, id)))
      const [victim] = await Promise.all([world.start('worker', env), world.start('worker', env)])
      await until('60 leads', 30_000, () => crm.leads.length >= 60)
      await redis.flush()
      const again = Promise.all(ids.map((id) => askFor(api, id)))
      await until('100 leads', 30_000, () => crm.leads.length >= 100)
      await victim.kill()
      await Promise.all([asking, again, world.start('worker', env)])
      const settledMs = await allConverted(world, 90_000)
      demandOneEach(crm, total)
      // Whole table; a scenario's is small.
      const { rows } = await world.db.execute(
        sql`SELECT count(*)::int AS leads, count(*) FILTER (WHERE unsure)::int AS unsure, sum(attempts)::int AS attempts
            FROM website_worker.crm_leads WHERE lead_id IS NOT NULL`,
      )
      demand(rows[0]?.leads === total, `${rows[0]?.leads} rows of leads`)
      return {
        afterKillMs: settledMs,
        posts: crm.posts,
        searches: crm.searches.length,
        unsure: rows[0]!.unsure as number,
      }
    }),
}

const few = 20
const moods: Record<string, (n: number) => CrmMood> = {
  'commits two and drops the connection': (n) => (n <= 2 ? 'make-and-drop' : 'make'),
  'commits two and freezes': (n) => (n <= 2 ? 'make-and-freeze' : 'make'),
  'commits two and answers 500': (n) => (n <= 2 ? { make: true, status: 500 } : 'make'),
  'commits two and answers garbage': (n) => (n <= 2 ? { make: true, status: 201, body: '<html>' } : 'make'),
  'asks to wait': (n) => (n <= 2 ? { make: false, status: 429, headers: { 'retry-after': '1' } } : 'make'),
}

export const unsureLeads: Scenario = {
  name: 'unsure-leads',
  title: 'a CRM that commits and hangs up, freezes, fails, talks nonsense or asks to wait: 20 submissions, 20 leads',
  run: (setting) =>
    inWorld(setting, async (world) => {
      const { crm, formId } = await openForm(world)
      await world.start('start', patience)
      const facts: Facts = {}
      let submissions = 0
      // The last one waits for the schedule, which is longer than the others take.
      for (const [name, mood] of Object.entries(moods).slice(0, setting.small ? -1 : undefined)) {
        const before = crm.posts
        crm.onPost((n) => mood(n - before))
        submissions += (await submit(world, formId, few)).length
        facts[name] = await allConverted(world, 60_000)
        demandOneEach(crm, submissions)
      }
      return facts
    }),
}
