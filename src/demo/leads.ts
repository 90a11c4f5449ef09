import { sql } from 'drizzle-orm'
import { websiteForms, websiteFormSubmissions } from '../db/schema/forms.ts'
import { websiteIntegrations } from '../db/schema/integrations.ts'
import { websiteSites } from '../db/schema/sites.ts'
import { startDemoCrm, startDemoMailServer } from './crm.ts'
import type { DemoContext, DemoRow } from './webhooks.ts'

/** Two submissions of a form, by nothing but their rows: each becomes a lead and a mail, though the CRM hangs up once. */
export async function demoLeads({ db, until }: DemoContext): Promise<{ rows: DemoRow[]; close(): Promise<void> }> {
  const crm = await startDemoCrm()
  const mailServer = await startDemoMailServer()
  const [site] = await db
    .insert(websiteSites)
    .values({ name: 'Demo shop', domain: `leads-${Date.now()}.example` })
    .returning({ id: websiteSites.id })
  const siteId = site?.id ?? 0
  const mail = { host: '127.0.0.1', port: mailServer.port, from: 'Demo shop <shop@demo.example>' }
  await db.insert(websiteIntegrations).values([
    { siteId, type: 'crm', provider: 'http', name: 'Demo CRM', config: { url: crm.url } },
    { siteId, type: 'email', provider: 'smtp', name: 'Demo mail server', config: mail },
  ])
  const [form] = await db
    .insert(websiteForms)
    .values({ siteId, name: 'Contact', slug: 'contact', fields: [], notificationEmails: ['sales@demo.example'] })
    .returning({ id: websiteForms.id })
  const submissions = await db
    .insert(websiteFormSubmissions)
    .values(['Ann', 'Bob'].map((name) => ({ formId: form?.id ?? 0, data: { name, message: 'Please call me.' } })))
    .returning({ id: websiteFormSubmissions.id })

  const ids = sql.param(submissions.map(({ id }) => id))
  const ended = await until(async () => {
    const { rows } = await db.execute(
      sql`SELECT s.id, s.status, s.crm_lead_id FROM website_form_submissions s
          WHERE s.id = ANY (${ids}) AND s.status = 'converted' ORDER BY s.id`,
    )
    return rows.length === submissions.length && mailServer.mails.length === submissions.length ? rows : undefined
  })
  const rows: DemoRow[] = ended
    ? [
        ...ended.map((row) => ({
          job: 'create-lead',
          what: 'Contact form → demo CRM',
          result: `lead ${String(row['crm_lead_id'])}`,
          ok: true,
        })),
        {
          job: '',
          what: 'the CRM made one and hung up before it said so',
          result: `${crm.leads.length} leads of ${submissions.length} submissions`,
          ok: crm.leads.length === submissions.length,
        },
        {
          job: 'send-notification',
          what: 'Contact form → sales@demo.example',
          result: `${mailServer.mails.length} mails`,
          ok: mailServer.mails.every((text) => text.includes('Message-ID: <web-submission-')),
        },
      ]
    : [{ job: 'create-lead', what: 'two submissions', result: 'not done within 30 s', ok: false }]
  return { rows, close: async () => void (await Promise.all([crm.close(), mailServer.close()])) }
}
