import { describe, expect, test } from 'vitest'
import { createCredentials } from '../../src/clients/credentials.ts'

const credentials = createCredentials(
  new Map([
    ['HUBSPOT', { secret: 'pat-na1-0123', hosts: ['api.example', 'crm.example:8443'] }],
    ['NOWHERE', { secret: 'user:hidden-word', hosts: [] }],
  ]),
)
const at = (url: string) => new URL(url)

describe('a credential', () => {
  test('is for the hosts that are listed', () => {
    expect(credentials.secretFor('HUBSPOT', at('https://API.example/v1'))).toBe('pat-na1-0123')
    expect(credentials.secretFor('HUBSPOT', at('https://api.example:9443/v1'))).toBe('pat-na1-0123')
    expect(credentials.secretFor('HUBSPOT', at('https://crm.example:8443/'))).toBe('pat-na1-0123')
  })

  test.each([
    ['HUBSPOT', 'https://evil.example/', 'evil.example is not listed in CREDENTIAL_HUBSPOT_HOSTS'],
    ['HUBSPOT', 'https://api.example.evil.example/', 'not listed'],
    ['HUBSPOT', 'https://xapi.example/', 'not listed'],
    ['HUBSPOT', 'https://crm.example/', 'not listed'],
    ['NOWHERE', 'https://api.example/', 'not listed in CREDENTIAL_NOWHERE_HOSTS'],
    ['DATABASE_URL', 'https://api.example/', 'CREDENTIAL_DATABASE_URL is not set'],
    ['../HUBSPOT', 'https://api.example/', 'no name of a credential'],
    ['hubspot', 'https://api.example/', 'no name of a credential'],
  ])('%s is refused to %s', (name, url, words) => {
    expect(() => credentials.secretFor(name, at(url))).toThrow(words)
    expect(() => credentials.secretFor(name, at(url))).not.toThrow(/pat-na1|hidden/)
  })

  test('is taken out of texts, in each of its forms', () => {
    const text = `bad token pat-na1-0123, ${Buffer.from('user:hidden-word').toString('base64')}, hidden-word`
    expect(credentials.redact(text)).toBe('bad token [redacted], [redacted], [redacted]')
  })

  test('is taken out of what a mail server repeats of it', () => {
    const { redact } = createCredentials(new Map([['MAIL', { secret: 'shop:ab:c:d', hosts: [] }]]))
    const base64 = (text: string) => Buffer.from(text).toString('base64')
    const text = `535 ab:c:d ${base64('ab:c:d')} ${base64('\0shop\0ab:c:d')}`
    expect(redact(text)).toBe('535 [redacted] [redacted] [redacted]')
  })
  test('is taken out of a text that was cut in the middle of it', () => {
    expect(credentials.redact('bad token pat-na1-01')).toBe('bad token [redacted]')
    expect(credentials.redact('a pat'), 'innocent').toBe('a pat')
  })

  test('of the worker itself is taken out too, and can not be named', () => {
    const { redact, secretFor } = createCredentials(new Map(), ['mailer:s3cret-word'])
    expect(redact('535 s3cret-word')).toBe('535 [redacted]')
    expect(() => secretFor('SMTP_URL', at('https://api.example/'))).toThrow('not set')
  })
})
