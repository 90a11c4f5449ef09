import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { AppError } from './errors.ts'
import { parseRetrySchedule } from './queues/retry-schedule.ts'

const secrets = ['DATABASE_URL', 'REDIS_URL', 'API_KEYS', 'BOARD_USERS'] as const

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
  RETENTION_PAYLOADS_DAYS: integer(1, 36_500).default(30),
})

/** What the process runs with; defaults are the zero-install ones. */
export type Config = z.output<typeof schema>

function withSecretFiles(env: NodeJS.ProcessEnv, problems: string[]): Record<string, string> {
  const values: Record<string, string> = {}
  for (const name of Object.keys(schema.shape)) if (env[name]?.trim()) values[name] = env[name].trim()
  for (const name of secrets) {
    const file = env[`${name}_FILE`]
    if (!file) continue
    if (values[name]) problems.push(`${name}: set it or ${name}_FILE, not both`)
    try {
      values[name] = readFileSync(file, 'utf8').trim()
    } catch (error) {
      problems.push(`${name}_FILE: ${(error as Error).message}`)
    }
  }
  return values
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
  if (problems.length > 0 || !parsed.success) {
    throw new AppError('misconfigured', `The environment isn't right:\n  ${problems.join('\n  ')}`)
  }
  return parsed.data
}
