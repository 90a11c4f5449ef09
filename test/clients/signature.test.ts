import fc from 'fast-check'
import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { AppError } from '../../src/errors.ts'
import { sign } from '../../src/clients/signature.ts'
import { readSecret } from '../../src/signing-secret.ts'

const id = 'msg_p5jXN8AQM9LWM0D4loKWxJek'
const body = '{"test": 2432232314}'
const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const expected = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='

describe('sign', () => {
  test('gives the reference vector of Standard Webhooks', () => {
    expect(sign(secret, id, 1614265330, body)).toBe(expected)
    expect(sign(secret, id, 1614265330, Buffer.from(body))).toBe(expected)
  })

  test('signs with every secret during a rotation, in their order', () => {
    const other = 'whsec_c2VjcmV0LW9mLXRoZS1vbGQtZGF5cw=='
    const both = sign(`${secret} ${other}`, id, 1614265330, body)
    expect(both).toBe(`${expected} ${sign(other, id, 1614265330, body)}`)
    expect(sign(` ${secret}`, id, 1614265330, body), 'a secret of another form is not guessed at').not.toBe(expected)
  })

  test('takes a secret without prefix as its UTF-8 bytes, spaces included', () => {
    for (const plain of [
      'correct horse battery staple',
      'schlüssel',
      'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
      'a whsec_b',
    ]) {
      const encoded = `whsec_${Buffer.from(plain).toString('base64')}`
      expect(sign(plain, id, 1614265330, body)).toBe(sign(encoded, id, 1614265330, body))
      expect(readSecret(plain).encoding).toBe('utf8')
    }
    expect(readSecret(secret).encoding).toBe('base64')
  })

  test('is accepted by the reference verifier, also while a key is being rotated in', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), fc.json({ stringUnit: 'binary' }), (key, text) => {
        const ours = `whsec_${Buffer.from(key).toString('base64')}`
        const seconds = Math.floor(Date.now() / 1_000)
        for (const stored of [ours, `whsec_b3RoZXI= ${ours}`]) {
          const signature = sign(stored, 'evt_1', seconds, Buffer.from(text))
          const headers = { 'webhook-id': 'evt_1', 'webhook-timestamp': `${seconds}`, 'webhook-signature': signature }
          expect(new Webhook(ours).verify(text, headers)).toEqual(JSON.parse(text))
        }
      }),
    )
  })

  test.each([
    ['whsec_', 'the webhook secret is empty after whsec_'],
    ['whsec_====', 'the webhook secret is empty after whsec_'],
    ['whsec_bm90 base64!', "part 2 of the webhook secret doesn't start with whsec_"],
    ['whsec_not-base64!', 'the webhook secret is not valid base64'],
    ['whsec_a_-b', 'the webhook secret is not valid base64'],
    ['whsec_MfKQ9', 'the webhook secret is not valid base64'],
    [`${secret} whsec_`, 'part 2 of the webhook secret is empty'],
    [`${secret} whsec_?`, 'part 2 of the webhook secret is not valid base64'],
    ['whsec_A', 'the webhook secret is not valid base64'],
    ['whsec_QUJD=QUJD', 'the webhook secret is not valid base64'],
    ['whsec_QUJD\u0000', 'the webhook secret is not valid base64'],
    ['whsec_ＱＵＪＤ', 'the webhook secret is not valid base64'],
    ['whsec_QUJD,whsec_QUJD', 'the webhook secret is not valid base64'],
    ['   ', 'the webhook has no secret'],
    [`${secret} plain`, "part 2 of the webhook secret doesn't start with whsec_"],
    ['', 'the webhook has no secret'],
  ])('refuses %j in words', (bad, words) => {
    expect(() => sign(bad, id, 1, body)).toThrow(words)
    expect(() => sign(bad, id, 1, body)).toThrow(AppError)
    expect(() => sign(bad, id, 1, body), 'no secret in a message').not.toThrow(/MfKQ|base64!|a_-b/)
  })
})
