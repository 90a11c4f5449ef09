import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createCredentials } from '../../src/clients/credentials.ts'
import { createGuard } from '../../src/clients/guard.ts'
import { openMailServer } from '../../src/clients/mail-integration.ts'
import { createMailer, readSmtpUrl, type MailServer } from '../../src/clients/smtp.ts'
import { testCertificate } from '../fixtures/certificate.ts'
import { startMailServer, type MailServerFixture } from '../fixtures/mail-server.ts'

let mailServer: MailServerFixture
beforeEach(async () => {
  mailServer = await startMailServer()
})
afterEach(() => mailServer.close())

const mail = {
  from: 'Shop <shop@shop.example>',
  to: ['ann@example.com', 'bob@example.com'],
  subject: 'Hello',
  text: 'text',
  html: '<p>text</p>',
  messageId: '<web-submission-1@shop.example>',
}
const { signal } = new AbortController()
const mailer = (options: { timeoutMs?: number; ca?: string } = {}) =>
  createMailer({
    guard: createGuard({ allowCidrs: ['127.0.0.2/32'] }),
    timeoutMs: 5_000,
    ca: testCertificate.cert,
    ...options,
  })
const at = (more: Partial<MailServer> = {}): MailServer => ({
  host: '127.0.0.2',
  port: mailServer.port,
  secure: false,
  requireTls: false,
  isGuarded: true,
  ...more,
})
const send = (more?: Partial<MailServer>, options?: { timeoutMs?: number; ca?: string }) =>
  mailer(options).send(at(more), mail, signal)

describe('a mail', () => {
  test('is handed over once to all who should have it, over TLS where the server has it', async () => {
    expect(await send()).toEqual({ kind: 'sent', accepted: mail.to, rejected: [] })
    expect(mailServer.mails).toHaveLength(1)
    expect(mailServer.mails[0]).toMatchObject({ from: 'shop@shop.example', to: mail.to, isEncrypted: true })
    expect(mailServer.mails[0]!.raw).toContain('Message-ID: <web-submission-1@shop.example>')
  })

  test('goes out as whoever the server knows', async () => {
    expect(await send({ auth: { user: 'shop', pass: 'mail-secret' }, requireTls: true })).toMatchObject({
      kind: 'sent',
    })
    expect(mailServer.mails[0]).toMatchObject({ user: 'shop', isEncrypted: true })
  })

  test('to the server of the installation needs no guard', async () => {
    const server = readSmtpUrl(`smtp://shop:mail-secret@127.0.0.2:${mailServer.port}/?requireTLS=true`)
    const closed = createMailer({ guard: createGuard(), ca: testCertificate.cert })
    expect(await closed.send(server, mail, signal)).toMatchObject({ kind: 'sent' })
    expect(mailServer.mails[0]).toMatchObject({ user: 'shop' })
  })

  test('reaches those that the server takes', async () => {
    mailServer.refuse('bob@example.com')
    expect(await send()).toEqual({ kind: 'sent', accepted: ['ann@example.com'], rejected: ['bob@example.com'] })
  })
})

describe('no mail', () => {
  test('goes through the guard to where it may not', async () => {
    const guarded = createMailer({ guard: createGuard() })
    expect(await guarded.send(at(), mail, signal)).toEqual({
      kind: 'unusable',
      error: 'refused by the outbound guard: 127.0.0.2 is a loopback address',
    })
    expect(mailServer.begun).toBe(0)
  })

  test('with a password goes over a line that is not encrypted', async () => {
    // Its certificate is not trusted.
    const result = await createMailer({ guard: createGuard({ allowCidrs: ['127.0.0.2/32'] }) }).send(
      at({ auth: { user: 'shop', pass: 'mail-secret' }, requireTls: true }),
      mail,
      signal,
    )
    expect(result).toMatchObject({ kind: 'unsent', error: expect.stringMatching(/self-signed/) })
    expect(mailServer.begun).toBe(0)
  })

  test.each([
    [{ status: 451, words: 'try later' }, 'unsent'],
    [{ status: 554, words: 'spam' }, 'rejected'],
    ['keep-and-hang-up', 'unsent'],
  ] as const)('is sent when the server does %j', async (mood, kind) => {
    mailServer.onMail(() => mood)
    expect(await send()).toMatchObject({ kind, error: expect.stringContaining(`127.0.0.2:${mailServer.port}: `) })
  })

  test('is waited for longer than the deadline', async () => {
    mailServer.onMail(() => 'freeze')
    expect(await send({}, { timeoutMs: 500 })).toEqual({
      kind: 'unsent',
      error: `timed out after 0.5 s with 127.0.0.2:${mailServer.port}`,
    })
  })

  test('is sent with a wrong password, to nobody, or nowhere', async () => {
    expect(await send({ auth: { user: 'shop', pass: 'guess' } })).toMatchObject({ kind: 'unsent' })
    mailServer.refuse('ann@example.com')
    mailServer.refuse('bob@example.com')
    expect(await send()).toMatchObject({ kind: 'rejected' })
    expect(await send({ port: 1 })).toMatchObject({ kind: 'unsent' })
  })
})

describe('a mail server of a site', () => {
  const credentials = createCredentials(
    new Map([
      ['MAIL', { secret: 'shop:mail-secret', hosts: ['mail.example'] }],
      ['WORD', { secret: 'only-a-word', hosts: ['mail.example'] }],
    ]),
  )
  const open = (config: unknown, provider = 'smtp') =>
    openMailServer({ id: 9, name: 'Post', provider, config }, credentials)

  test('is what its row says', () => {
    expect(open({ host: 'mail.example', credentials: 'MAIL', from: 'Shop <shop@shop.example>' })).toEqual({
      server: {
        host: 'mail.example',
        port: 587,
        secure: false,
        requireTls: true,
        auth: { user: 'shop', pass: 'mail-secret' },
        isGuarded: true,
      },
      from: 'Shop <shop@shop.example>',
    })
    expect(open({ host: 'mail.example', port: 465, user: 'u', credentials: 'WORD' }).server).toMatchObject({
      secure: true,
      auth: { user: 'u', pass: 'only-a-word' },
    })
  })

  test.each([
    [
      { host: 'evil.example', credentials: 'MAIL' },
      'integration "Post" (9): config.credentials: evil.example is not listed',
    ],
    [
      { host: 'mail.example', credentials: 'API_KEYS' },
      'integration "Post" (9): config.credentials: CREDENTIAL_API_KEYS is not set',
    ],
    [{ host: 'mail.example', credentials: 'WORD' }, 'config.user is not set, and CREDENTIAL_WORD is not user:password'],
    [{ host: 'mail.example', from: 'Shop <a@b.c>\r\nBcc: <d@e.f>' }, 'config.from'],
    [{ host: 'a b' }, 'config.host: must be the name of a mail server'],
    [{ host: 'mail.example', port: 0 }, 'config.port'],
  ])('%j is refused by name', (config, words) => {
    expect(() => open(config)).toThrow(words)
  })
})
