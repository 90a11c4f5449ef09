import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { z } from 'zod'
import { AppError } from './errors.ts'
import { parseRetrySchedule } from './queues/retry-schedule.ts'

const secrets = [
  'DATABASE_URL',
  'REDIS_URL',
  'API_KEYS',
  'BOARD_USERS',
  'SMTP_URL',
  'ERP_TOKEN',
  'ERP_PASSWORD',
  'ERP_WEBHOOK_SECRET',
] as const

const integer = (min: number, max: number) => z.coerce.number().int().min(min).max(max)

const postgresUrl = z.url({ protocol: /^postgres(ql)?$/, error: 'expected postgres://user:password@host/database' })

const redisUrl = z.string().regex(/^rediss?(\+cluster|\+sentinel)?:\/\/.+/, {
  error:
    'expected redis://host:6379, rediss://…, redis+cluster://a:7000,b:7000 or redis+sentinel://a:26379,b:26379/master',
})

const apiKeys = z.string().transform((text, context) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part, index) => {
      const [name, secret, scopes = 'enqueue|ops'] = part.split(':')
      const list = scopes.split('|')
      if (
        !name ||
        !secret ||
        part.split(':').length > 3 ||
        list.some((scope) => scope !== 'enqueue' && scope !== 'ops')
      ) {
        context.addIssue(`entry ${index + 1} isn't name:secret[:enqueue|ops]`)
        return z.NEVER
      }
      if (secret.length < 16) context.addIssue(`the secret of "${name}" is shorter than 16 characters`)
      return { name, secret, scopes: list as ('enqueue' | 'ops')[] }
    }),
)

const boardUsers = z.string().transform((text, context) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part, index) => {
      const [name, password, access = 'ro'] = part.split(':')
      if (!name || !password || part.split(':').length > 3 || (access !== 'rw' && access !== 'ro')) {
        context.addIssue(`entry ${index + 1} isn't name:password:rw|ro`)
        return z.NEVER
      }
      return { name, password, access: access as 'rw' | 'ro' }
    }),
)

const cidrs = z.string().transform((text, context) =>
  text
    .split(/[\s,]+/)
    .filter(Boolean)
    .map((cidr) => {
      const [address = '', bits = ''] = cidr.split('/')
      const parsed = (address.includes(':') ? z.ipv6() : z.ipv4()).safeParse(address)
      const fits = /^\d+$/.test(bits) && Number(bits) <= (address.includes(':') ? 128 : 32)
      if (!parsed.success || !fits) context.addIssue(`"${cidr}" isn't an address range like 10.0.0.0/8`)
      return cidr
    }),
)

const smtpUrl = z.url({ protocol: /^smtps?$/, error: 'expected smtp://user:password@host:587 or smtps://…' })

const mailFrom = z.string().regex(/^(?:[^<>\r\n"]*<[^\s<>@,]+@[^\s<>@,]+>|[^\s<>@,]+@[^\s<>@,]+)$/, {
  error: 'expected an address like shop@example.com or Shop <shop@example.com>',
})

const erpUrl = z
  .url({ protocol: /^https?$/, error: 'expected http(s)://host/path' })
  .refine((url) => !URL.canParse(url) || (new URL(url).username === '' && new URL(url).password === ''), {
    error: 'must hold no user or password; set ERP_TOKEN',
  })

const oneLine = z.string().regex(/^[\x20-\x7E]+$/, { error: 'a secret is one line of printable ASCII' })

const signingSecrets = oneLine.refine((text) => text.split(' ').every((secret) => secret.length >= 16), {
  error: 'a secret has at least 16 characters; several are separated by one space',
})

const retrySchedule = z.string().transform((text, context) => {
  try {
    return parseRetrySchedule(text)
  } catch (error) {
    context.addIssue((error as Error).message)
    return z.NEVER
  }
})

const schema = z.object({
  DATABASE_URL: postgresUrl.optional(),
  REDIS_URL: redisUrl.optional(),
  QUEUE_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,50}$/, { error: 'only letters, digits, - and _' })
    .default('website-worker'),
  HOST: z.string().optional(),
  PORT: integer(0, 65_535).default(3000),
  API_KEYS: apiKeys.optional(),
  BOARD_USERS: boardUsers.optional(),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  WEBHOOK_RETRY_SCHEDULE: retrySchedule.optional(),
  WEBHOOK_TIMEOUT_MS: integer(100, 120_000).default(15_000),
  WEBHOOK_CONCURRENCY: integer(1, 1_000).default(100),
  OUTBOUND_ALLOW_CIDRS: cidrs.default([]),
  CRM_TIMEOUT_MS: integer(100, 120_000).default(15_000),
  CRM_SETTLE_MS: integer(100, 3_600_000).default(30_000),
  ERP_PROVIDER: z.enum(['http', 'tryton']).default('http'),
  ERP_URL: erpUrl.optional(),
  ERP_TOKEN: oneLine.optional(),
  ERP_USER: z.string().max(255).optional(),
  ERP_PASSWORD: oneLine.optional(),
  ERP_WEBHOOK_SECRET: signingSecrets.optional(),
  ERP_TIMEOUT_MS: integer(100, 120_000).default(30_000),
  SMTP_URL: smtpUrl.optional(),
  MAIL_FROM: mailFrom.optional(),
  RETENTION_PAYLOADS_DAYS: integer(1, 36_500).default(30),
  RETENTION_DELIVERIES_DAYS: integer(1, 36_500).optional(),
  RETENTION_SYNC_LOGS_DAYS: integer(1, 36_500).optional(),
  RETENTION_CARTS_DAYS: integer(0, 36_500).optional(),
  ARCHIVE_AFTER_MONTHS: integer(1, 1_200).optional(),
  ARCHIVE_DIR: z
    .string()
    .transform((path) => resolve(path))
    .optional(),
})

/** A secret that rows may name, and where it may go. */
export interface Credential {
  secret: string
  /** Lower case: `crm.example` or `crm.example:8443`. */
  hosts: readonly string[]
}

/** What the process runs with; defaults are the zero-install ones. */
export type Config = z.output<typeof schema> & {
  /** `CREDENTIAL_<name>` by name. */
  CREDENTIALS: ReadonlyMap<string, Credential>
}

function withSecretFiles(env: NodeJS.ProcessEnv, problems: string[]): Record<string, string> {
  const values: Record<string, string> = {}
  for (const name of Object.keys(schema.shape)) if (env[name]?.trim()) values[name] = env[name].trim()
  for (const name of secrets) {
    const secret = fromFile(env, name, problems)
    if (secret !== undefined) values[name] = secret
  }
  return values
}

/** What `NAME_FILE` holds; undefined when it isn't set or can't be read. */
function fromFile(env: NodeJS.ProcessEnv, name: string, problems: string[]): string | undefined {
  const file = env[`${name}_FILE`]
  if (!file) return undefined
  if (env[name]?.trim()) problems.push(`${name}: set it or ${name}_FILE, not both`)
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    problems.push(`${name}_FILE: ${(error as Error).message}`)
    return undefined
  }
}

const credentialVariable = /^(CREDENTIAL_([A-Z][A-Z0-9_]*?))(_FILE)?$/

/** Every `CREDENTIAL_<name>`, or `CREDENTIAL_<name>_FILE`, with the hosts of `CREDENTIAL_<name>_HOSTS`. */
function readCredentials(env: NodeJS.ProcessEnv, problems: string[]): Map<string, Credential> {
  const credentials = new Map<string, Credential>()
  for (const variable of Object.keys(env)) {
    const [, base, name, isFile] = credentialVariable.exec(variable) ?? []
    if (!base || !name || name.endsWith('_HOSTS')) continue
    const secret = isFile ? fromFile(env, base, problems) : env[base]?.trim()
    if (!secret) continue
    if (/[\r\n\0]/.test(secret)) problems.push(`${variable}: a secret is one line`)
    const hosts = (env[`${base}_HOSTS`] ?? '')
      .toLowerCase()
      .split(/[\s,]+/)
      .filter(Boolean)
    for (const host of hosts) {
      if (!/^(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/.test(host))
        problems.push(`${base}_HOSTS: "${host}" isn't a host like crm.example or crm.example:8443`)
    }
    credentials.set(name, { secret, hosts })
  }
  return credentials
}

/**
 * Reads the environment.
 * @throws AppError `misconfigured`, naming every variable that is wrong at once.
 */
export function parseConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const problems: string[] = []
  const parsed = schema.safeParse(withSecretFiles(env, problems))
  if (!parsed.success) {
    for (const issue of parsed.error.issues) problems.push(`${issue.path.join('.')}: ${issue.message}`)
  }
  const credentials = readCredentials(env, problems)
  if (parsed.success && (parsed.data.ARCHIVE_AFTER_MONTHS === undefined) !== (parsed.data.ARCHIVE_DIR === undefined)) {
    problems.push('ARCHIVE_AFTER_MONTHS, ARCHIVE_DIR: set both, or neither')
  }
  if (problems.length > 0 || !parsed.success) {
    throw new AppError('misconfigured', `The environment isn't right:\n  ${problems.join('\n  ')}`)
  }
  return { ...parsed.data, CREDENTIALS: credentials }
}
