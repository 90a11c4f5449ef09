import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseConfig } from '../src/config.ts'

describe('the environment', () => {
  test('may be empty', () => {
    expect(parseConfig({})).toMatchObject({ PORT: 3000, WEBHOOK_TIMEOUT_MS: 15_000, OUTBOUND_ALLOW_CIDRS: [] })
  })

  test('is read whole, and everything wrong is named at once', () => {
    const wrong = {
      DATABASE_URL: 'mysql://x',
      REDIS_URL: 'localhost',
      QUEUE_PREFIX: 'a b',
      PORT: '99999',
      API_KEYS: 'main:short,broken',
      BOARD_USERS: 'ops:pw:admin',
      LOG_LEVEL: 'loud',
      WEBHOOK_RETRY_SCHEDULE: '5x',
      OUTBOUND_ALLOW_CIDRS: '10.0.0.0/8 nonsense',
      CRM_TIMEOUT_MS: '0',
      ERP_PROVIDER: 'sap',
      ERP_URL: 'https://user:secret@erp.example/',
      ERP_TOKEN: 'two\nlines',
      ERP_WEBHOOK_SECRET: 'short',
      ERP_TIMEOUT_MS: '1',
      SMTP_URL: 'http://mail.example',
      MAIL_FROM: 'Shop <shop@example.com>\r\nBcc: <x@example.com>',
      CREDENTIAL_HUBSPOT: 'secret',
      CREDENTIAL_HUBSPOT_HOSTS: 'https://api.example/',
    }
    expect(() => parseConfig(wrong)).toThrow(
      new RegExp(
        Object.keys(wrong)
          .filter((name) => name !== 'CREDENTIAL_HUBSPOT')
          .join('[^]*'),
      ),
    )
  })

  test('says how long deliveries are kept, and nothing of it unless it is set', () => {
    expect(parseConfig({}).RETENTION_DELIVERIES_DAYS).toBeUndefined()
    expect(parseConfig({ RETENTION_DELIVERIES_DAYS: '90' })).toMatchObject({ RETENTION_DELIVERIES_DAYS: 90 })
    expect(() => parseConfig({ RETENTION_DELIVERIES_DAYS: '0' })).toThrow('RETENTION_DELIVERIES_DAYS')
  })

  test('names the ERP, and the secrets its pushes are signed with', () => {
    expect(parseConfig({})).toMatchObject({ ERP_PROVIDER: 'http', ERP_TIMEOUT_MS: 30_000 })
    expect(parseConfig({}).ERP_URL).toBeUndefined()
    const config = parseConfig({
      ERP_URL: 'https://erp.example/api?tenant=3',
      ERP_TOKEN: ' t0ken ',
      ERP_WEBHOOK_SECRET: 'whsec_b2xkb2xkb2xk whsec_bmV3bmV3bmV3',
    })
    expect(config).toMatchObject({
      ERP_URL: 'https://erp.example/api?tenant=3',
      ERP_TOKEN: 't0ken',
      ERP_WEBHOOK_SECRET: 'whsec_b2xkb2xkb2xk whsec_bmV3bmV3bmV3',
    })
  })

  test('gives keys and users their parts', () => {
    const config = parseConfig({
      API_KEYS: 'app:0123456789abcdef:enqueue, ops:fedcba9876543210',
      BOARD_USERS: 'ann:pw:rw,bob:pw',
    })
    expect(config.API_KEYS).toEqual([
      { name: 'app', secret: '0123456789abcdef', scopes: ['enqueue'] },
      { name: 'ops', secret: 'fedcba9876543210', scopes: ['enqueue', 'ops'] },
    ])
    expect(config.BOARD_USERS).toEqual([
      { name: 'ann', password: 'pw', access: 'rw' },
      { name: 'bob', password: 'pw', access: 'ro' },
    ])
  })

  test('archives only where it is told both how much and whereto', () => {
    expect(parseConfig({ ARCHIVE_AFTER_MONTHS: '13', ARCHIVE_DIR: '/var/archive/' })).toMatchObject({
      ARCHIVE_AFTER_MONTHS: 13,
      ARCHIVE_DIR: '/var/archive',
    })
    expect(() => parseConfig({ ARCHIVE_DIR: '/var/archive' })).toThrow('ARCHIVE_AFTER_MONTHS, ARCHIVE_DIR: set both')
    expect(() => parseConfig({ ARCHIVE_AFTER_MONTHS: '0', ARCHIVE_DIR: '/var/archive' })).toThrow(
      'ARCHIVE_AFTER_MONTHS',
    )
  })

  test('takes a secret from a file, but not from two places', () => {
    const dir = mkdtempSync(join(tmpdir(), 'config-'))
    const file = join(dir, 'url')
    writeFileSync(file, 'postgres://u:p@h/d\n')
    expect(parseConfig({ DATABASE_URL_FILE: file }).DATABASE_URL).toBe('postgres://u:p@h/d')
    expect(() => parseConfig({ DATABASE_URL_FILE: file, DATABASE_URL: 'postgres://h/d' })).toThrow('not both')
    expect(() => parseConfig({ REDIS_URL_FILE: join(dir, 'none') })).toThrow('REDIS_URL_FILE')
    rmSync(dir, { recursive: true })
  })

  test('gives credentials their names and hosts, also from files', () => {
    const dir = mkdtempSync(join(tmpdir(), 'config-'))
    const file = join(dir, 'token')
    writeFileSync(file, 'from a file\n')
    const { CREDENTIALS } = parseConfig({
      CREDENTIAL_HUBSPOT: 'token',
      CREDENTIAL_HUBSPOT_HOSTS: 'API.example, crm.example:8443',
      CREDENTIAL_MAIL_2_FILE: file,
      CREDENTIAL_MAIL_2_HOSTS: 'mail.example',
      CREDENTIAL_NOWHERE: 'unlisted',
      CREDENTIAL_LONELY_HOSTS: 'x.example',
      CREDENTIALS: 'no name',
      OTHER_SECRET: 'not for rows',
    })
    expect([...CREDENTIALS]).toEqual([
      ['HUBSPOT', { secret: 'token', hosts: ['api.example', 'crm.example:8443'] }],
      ['MAIL_2', { secret: 'from a file', hosts: ['mail.example'] }],
      ['NOWHERE', { secret: 'unlisted', hosts: [] }],
    ])
    expect(() => parseConfig({ CREDENTIAL_X: 'a\nb', CREDENTIAL_Y_FILE: join(dir, 'none') })).toThrow(
      /CREDENTIAL_X: [^]*CREDENTIAL_Y_FILE: /,
    )
    rmSync(dir, { recursive: true })
  })
})
