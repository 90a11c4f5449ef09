import { AppError } from '../errors.ts'

/** Secrets that rows name, each for the hosts it may be sent to. */
export interface Credentials {
  /** The secret of a name, for a URL. @throws AppError `refused`, naming the variable to set, without any secret */
  secretFor(name: string, target: { hostname: string; port: string }): string
  /** Takes every secret out of a text. */
  redact(text: string): string
}

const shown = (name: string) => JSON.stringify(name.slice(0, 64))
/** Shorter ones, and shorter beginnings, would also blot out innocent words. */
const shortestRedacted = 4
const shortestBeginning = 6

/** A text that was cut in the middle of a secret: what is left of it at the end. */
function withoutBeginning(text: string, secret: string): string {
  for (let length = secret.length - 1; length >= shortestBeginning; length--)
    if (text.endsWith(secret.slice(0, length))) return `${text.slice(0, -length)}[redacted]`
  return text
}

/**
 * Whoever edits a row can name a secret, but not send it anywhere: a host must be listed for it by whoever runs the worker.
 * `others` (`user:password` or a token) can't be named at all, and are taken out of texts like these.
 */
export function createCredentials(
  known: ReadonlyMap<string, { secret: string; hosts: readonly string[] }> = new Map(),
  others: readonly string[] = [],
): Credentials {
  // Also the password of user:password alone, and each as it stands in basic authentication, in SMTP's, or in a URL.
  const secrets = [...[...known.values()].map(({ secret }) => secret), ...others]
    .flatMap((secret) => {
      const colon = secret.indexOf(':')
      if (colon < 0) return [secret]
      const [user, password] = [secret.slice(0, colon), secret.slice(colon + 1)]
      return [secret, password, base64(`\0${user}\0${password}`)]
    })
    .flatMap((secret) => [secret, encodeURIComponent(secret), base64(secret)])
    .filter((secret) => secret.length >= shortestRedacted)
    .toSorted((a, b) => b.length - a.length)

  return {
    secretFor(name, { hostname, port }) {
      if (!/^[A-Z][A-Z0-9_]*$/.test(name))
        throw new AppError('refused', `credentials: ${shown(name)} is no name of a credential, like HUBSPOT`)
      const credential = known.get(name)
      if (!credential) throw new AppError('refused', `credentials: CREDENTIAL_${name.slice(0, 64)} is not set`)
      const host = hostname.toLowerCase()
      if (!credential.hosts.includes(host) && !(port !== '' && credential.hosts.includes(`${host}:${port}`)))
        throw new AppError('refused', `credentials: ${host} is not listed in CREDENTIAL_${name}_HOSTS`)
      return credential.secret
    },
    redact: (text) =>
      secrets.reduce((rest, secret) => withoutBeginning(rest.replaceAll(secret, '[redacted]'), secret), text),
  }
}

const base64 = (text: string) => Buffer.from(text).toString('base64')
