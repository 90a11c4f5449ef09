import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createCredentials } from '../../src/clients/credentials.ts'
import { createGuard } from '../../src/clients/guard.ts'
import { createMailer } from '../../src/clients/smtp.ts'
import { enqueueItem } from '../../src/db/queries/enqueue.ts'
import { websiteIntegrations } from '../../src/db/schema/index.ts'
import type { MailSettings } from '../../src/processors/send-notification.ts'
import { testCertificate } from '../fixtures/certificate.ts'
import { startMailServer, type MailServerFixture } from '../fixtures/mail-server.ts'
import { createLeadStack, type LeadStack } from './lead-fixtures.ts'

let mailServer: MailServerFixture
let stack: LeadStack
beforeEach(async () => {
  mailServer = await startMailServer()
})
afterEach(async () => {
  await stack.close()
  await mailServer.close()
})

async function start(settings: Partial<MailSettings> = {}) {
  const credentials = createCredentials(new Map([['MAIL', { secret: 'shop:mail-secret', hosts: ['127.0.0.2'] }]]))
  const mail: MailSettings = {
    mailer: createMailer({
      guard: createGuard({ allowCidrs: ['127.0.0.2/32'] }),
      timeoutMs: 1_000,
      ca: testCertificate.cert,
    }),
    credentials,
    server: { host: '127.0.0.2', port: mailServer.port, secure: false, requireTls: false, isGuarded: false },
    from: 'Website <website@host.example>',
    ...settings,
  }
  stack = await createLeadStack({ jobs: ['create-lead', 'check-lead', 'send-notification'], deps: { mail } })
  stack.work()
  stack.dispatcher.start()
}

const form = (values: object = {}) =>
  stack.form({ emailNotifications: true, notificationEmails: ['ann@example.com'], ...values })
const eventually = <T>(check: () => Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 50 })
const notified = (expected: object) =>
  eventually(async () => {
    const [item] = await stack.items('send-notification')
    expect(item).toMatchObject(expected)
    return item!
  })
const unfolded = () => mailServer.mails[0]!.raw.replaceAll(/\r\n[ \t]+/g, ' ')

describe('a submission', () => {
  test.each([true, false])(
    'whose lead is asked for before it is found is mailed too (lead: %s)',
    async (crmLeadEnabled) => {
      await start()
      await stack.dispatcher.stop()
      await stack.integration()
      const [id] = await stack.submit(await form({ crmLeadEnabled }))
      stack.bell.ring([await enqueueItem(stack.db, 'create-lead', { submissionId: id }, { rung: true })])
      await eventually(async () => expect(await stack.items()).toMatchObject([{ state: 'done' }]))
      expect(await stack.submission(id!)).toMatchObject({ status: crmLeadEnabled ? 'converted' : 'processed' })
      await stack.dispatcher.tick()
      await notified({ state: 'done' })
      expect(mailServer.mails).toHaveLength(1)
      expect(await stack.items()).toHaveLength(1)
    },
  )

  test('is mailed once to all of its form, and becomes a lead', async () => {
    await start()
    await stack.integration()
    const formId = await form({
      notificationEmails: ['ann@example.com', 'ANN@example.com', ' bob@example.com ', 'nobody'],
    })
    const [id] = await stack.submit(formId, 1, { name: 'Jörg & <b>Co</b>', email: 'visitor@example.org' })
    const { result } = await notified({ state: 'done' })
    expect(result).toEqual({ to: ['ann@example.com', 'bob@example.com'], rejected: ['nobody'] })
    expect(mailServer.mails).toHaveLength(1)
    expect(mailServer.mails[0]).toMatchObject({
      from: 'website@host.example',
      to: ['ann@example.com', 'bob@example.com'],
    })
    const raw = unfolded()
    expect(raw).toContain(`Message-ID: <web-submission-${id}@host.example>`)
    expect(raw).toContain('Subject: New submission: Contact (Shop)')
    expect(raw).toContain('Reply-To: visitor@example.org')
    expect(raw).toContain('J=C3=B6rg &amp; &lt;b&gt;Co&lt;/b&gt;')
    expect(raw).toContain('J=C3=B6rg & <b>Co</b>')
    await eventually(async () => expect(await stack.statuses()).toEqual({ converted: 1 }))
  })

  test('without notifications, or without addresses, sends none', async () => {
    await start()
    await stack.integration()
    await stack.submit(await form({ emailNotifications: false }))
    await stack.submit(await form({ notificationEmails: null }))
    await stack.submit(await form({ notificationEmails: [] }))
    await eventually(async () => expect(await stack.statuses()).toEqual({ converted: 3 }))
    expect(await stack.items('send-notification')).toEqual([])
  })

  test('that was mailed is not mailed again, whoever resets or asks', async () => {
    await start()
    const [id] = await stack.submit(await form({ crmLeadEnabled: false }))
    await notified({ state: 'done' })
    await stack.db.execute(sql`UPDATE website_form_submissions SET status = 'new'`)
    await stack.db.execute(sql`DELETE FROM website_worker.seen_submissions`)
    await eventually(async () => {
      const items = await stack.items('send-notification')
      expect(items.map(({ key, state }) => [key, state])).toEqual([
        [String(id), 'done'],
        [String(id), 'done'],
      ])
    })
    expect(mailServer.mails).toHaveLength(1)
  })

  test('whose form has no valid address fails with a sentence', async () => {
    await start()
    await stack.submit(
      await form({ notificationEmails: ['a@b\r\nBcc: x@example.com', 'Ann <ann@example.com>, b@c.d'] }),
    )
    await notified({
      state: 'failed',
      lastError: expect.stringMatching(/^no address of the form is valid: \["a@b\\r\\nBcc/),
    })
    expect(mailServer.begun).toBe(0)
  })
})

test('nothing that was typed becomes a header, an address or markup', async () => {
  await start()
  const evil = 'x\r\nBcc: victim@example.com\r\n\r\n<script>alert(1)</script>'
  const formId = await form({ name: `Contact${evil}` })
  await stack.submit(formId, 1, { email: `me@example.com${evil}`, name: evil, [evil]: evil, 'a"b': '<img src=x>' })
  await notified({ state: 'done' })
  const [mail] = mailServer.mails
  expect(mail!.to).toEqual(['ann@example.com'])
  const head = mail!.raw.slice(0, mail!.raw.indexOf('\r\n\r\n'))
  expect(head).not.toMatch(/^Bcc:/im)
  expect(head).not.toMatch(/^Reply-To:/im)
  expect(mail!.raw.slice(mail!.raw.indexOf('text/html'))).not.toMatch(/<script|<img/)
})

describe('trouble with mail', () => {
  test('is tried again, and makes no second lead', async () => {
    await start()
    await stack.integration()
    mailServer.onMail((n) => (n < 3 ? { status: 451, words: 'try later' } : 'keep'))
    await stack.submit(await form())
    await notified({ state: 'done', attempts: 3 })
    expect(mailServer.mails).toHaveLength(1)
    await eventually(async () => expect(await stack.statuses()).toEqual({ converted: 1 }))
    expect(stack.crm.posts).toBe(1)
  })

  test('with a server that takes it and hangs up repeats it under one Message-ID', async () => {
    await start()
    mailServer.onMail((n) => (n === 1 ? 'keep-and-hang-up' : 'keep'))
    const [id] = await stack.submit(await form())
    await notified({ state: 'done', attempts: 2 })
    const ids = mailServer.mails.map(({ raw }) => /^Message-ID: (.*)\r$/m.exec(raw)?.[1])
    expect(ids).toEqual(Array(2).fill(`<web-submission-${id}@host.example>`))
  })

  test('for good fails with the words of the server', async () => {
    await start()
    mailServer.onMail(() => ({ status: 554, words: 'looks like spam' }))
    await stack.submit(await form())
    await notified({ state: 'failed', attempts: 1, lastError: expect.stringContaining('looks like spam') })
  })
})

describe('the mail server of a site', () => {
  const row = (config: object) => ({ type: 'email' as const, provider: 'smtp', name: 'Post', config })

  test('goes before that of the installation, with its own sender', async () => {
    await start({ server: { host: '127.0.0.2', port: 1, secure: false, requireTls: false, isGuarded: false } })
    const config = { host: '127.0.0.2', port: mailServer.port, credentials: 'MAIL', from: 'Shop <shop@shop.example>' }
    await stack.integration(row(config))
    await stack.submit(await form())
    await notified({ state: 'done' })
    expect(mailServer.mails[0]).toMatchObject({ from: 'shop@shop.example', user: 'shop', isEncrypted: true })
  })

  test.each([
    [
      'at an address that is refused',
      { host: '127.0.0.3' },
      /"Post" \(\d+\): refused by the outbound guard: 127\.0\.0\.3/,
    ],
    ['with a secret for others', { host: 'localhost', credentials: 'MAIL' }, /"Post" .*localhost is not listed/],
  ])('%s is named, and held until it is changed', async (_, config, error) => {
    await start()
    await stack.integration(row(config))
    await stack.submit(await form(), 3)
    await notified({
      state: 'held',
      attempts: 0,
      reason: 'mail server unusable',
      lastError: expect.stringMatching(error),
    })
    const good = { host: '127.0.0.2', port: mailServer.port, credentials: 'MAIL' }
    await stack.db.update(websiteIntegrations).set({ config: good })
    await eventually(async () => expect(mailServer.mails).toHaveLength(3))
    expect(JSON.stringify(await stack.items('send-notification'))).not.toContain('mail-secret')
  })

  test('is missed, and waited for', async () => {
    const credentials = createCredentials()
    const mailer = createMailer({ guard: createGuard({ allowCidrs: ['127.0.0.2/32'] }), ca: testCertificate.cert })
    stack = await createLeadStack({
      jobs: ['create-lead', 'send-notification'],
      deps: { mail: { mailer, credentials } },
    })
    stack.work()
    stack.dispatcher.start()
    await stack.submit(await form())
    await notified({
      state: 'held',
      reason: 'no mail server',
      lastError: expect.stringContaining('SMTP_URL is not set'),
    })
    await stack.integration(row({ host: '127.0.0.2', port: mailServer.port, from: 'shop@shop.example' }))
    await notified({ state: 'done' })
    expect(mailServer.mails).toHaveLength(1)
  })
})
