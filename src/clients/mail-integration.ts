import { z } from 'zod'
import { AppError, messageOf } from '../errors.ts'
import type { Credentials } from './credentials.ts'
import { integrationName, type Integration } from './crm/index.ts'
import type { MailServer } from './smtp.ts'

/** An address, or `Name <address>`, that can hold no second header. */
const sender = z.string().regex(/^(?:[^<>\p{Cc}"]*<[^\s<>@,]+@[^\s<>@,]+>|[^\s<>@,]+@[^\s<>@,]+)$/u, {
  error: 'must be an address like shop@example.com or Shop <shop@example.com>',
})

/** `website_integrations.config` of a mail server. */
const smtpConfig = z.object({
  host: z
    .string({ error: 'must be the name of a mail server' })
    .regex(/^[A-Za-z0-9._:-]{1,253}$/, { error: 'must be the name of a mail server' }),
  port: z.int().min(1).max(65_535).default(587),
  secure: z.boolean().optional(),
  user: z.string().max(255).optional(),
  credentials: z.string().optional(),
  from: sender.optional(),
})

export interface MailSetup {
  server: MailServer
  from: string | undefined
}

/** The mail server behind a row of website_integrations. @throws AppError `misconfigured`, naming the row and what is wrong */
export function openMailServer(integration: Integration, credentials: Credentials): MailSetup {
  const wrong = (what: string) => new AppError('misconfigured', `${integrationName(integration)}: ${what}`)
  if (integration.provider !== 'smtp')
    throw wrong(`provider ${JSON.stringify(integration.provider)} is unknown; there is smtp`)
  const parsed = smtpConfig.safeParse(integration.config)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw wrong(['config', ...(issue?.path ?? [])].join('.') + `: ${issue?.message}`)
  }
  const { host, port, secure = port === 465, from } = parsed.data
  const auth = authOf(parsed.data, credentials, wrong)
  // A secret never goes over a line that anyone could read.
  return {
    server: { host, port, secure, requireTls: auth !== undefined, ...(auth && { auth }), isGuarded: true },
    from,
  }
}

function authOf(
  { host, port, user, credentials: name }: z.output<typeof smtpConfig>,
  credentials: Credentials,
  wrong: (what: string) => AppError,
): MailServer['auth'] {
  if (name === undefined) return undefined
  let secret: string
  try {
    secret = credentials.secretFor(name, { hostname: host, port: String(port) })
  } catch (error) {
    throw wrong(`config.${messageOf(error)}`)
  }
  if (user !== undefined) return { user, pass: secret }
  const colon = secret.indexOf(':')
  if (colon < 1) throw wrong(`config.user is not set, and CREDENTIAL_${name} is not user:password`)
  return { user: secret.slice(0, colon), pass: secret.slice(colon + 1) }
}
