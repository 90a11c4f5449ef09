import { z } from 'zod'
import { AppError, messageOf } from '../../errors.ts'
import type { SyncType } from '../../erp.ts'
import type { Credentials } from '../credentials.ts'
import type { ErpConnector } from './connector.ts'
import { createHttpErp, type HttpErpDeps } from './http.ts'

/** What the environment says of the ERP; a site's own settings come before. */
export interface ErpEnvironment {
  /** Default: `http`. */
  provider?: string | undefined
  url?: string | undefined
  /** Sent to the origin of `url` alone. */
  token?: string | undefined
}

export interface ErpDeps extends Omit<HttpErpDeps, 'redact'> {
  credentials: Credentials
}

const types = { products: 'product', inventory: 'inventory', prices: 'price' } as const satisfies Record<
  string,
  SyncType
>

const interval = z
  .string({ error: 'must be like "15m", "1h" or "off"' })
  .regex(/^\s*(?:\d{1,7}[smhd]|off)\s*$/i, { error: 'must be like "15m", "1h" or "off"' })

/** Null means the same as leaving it out. */
const withoutNulls = (value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).filter(([, each]) => each !== null))
    : (value ?? {})

const settingsSchema = z.preprocess(
  withoutNulls,
  z.object(
    {
      provider: z.string().optional(),
      url: z
        .url({ protocol: /^https?$/, error: 'must be an http(s) URL' })
        .refine((url) => !URL.canParse(url) || (new URL(url).username === '' && new URL(url).password === ''), {
          error: 'must not hold a user or password; name a credential in `credentials`',
        })
        .optional(),
      credentials: z.string({ error: 'must be the name of a credential, like ERP2' }).optional(),
      siteKey: z
        .string()
        .regex(/^[^\p{Cc}\p{Cs}]{1,255}$/u, { error: 'must be a text of 1 to 255 characters' })
        .optional(),
      schedule: z.preprocess(
        withoutNulls,
        z.object({
          products: interval.optional(),
          inventory: interval.optional(),
          prices: interval.optional(),
        }),
      ),
      /** What the ERP has; without `prices` they come with the products. */
      streams: z
        .array(z.enum(['products', 'inventory', 'prices']))
        .min(1)
        .default(['products', 'inventory', 'prices']),
      pushOrders: z.enum(['off', 'created', 'paid']).default('off'),
      /** What the ERP writes, of the fields that can be left to the shop. Default: all. */
      fields: z
        .array(z.enum(['name', 'description', 'shortDescription', 'images', 'attributes', 'categories', 'status']))
        .optional(),
      maxConcurrent: z.int().min(1).max(32).default(4),
      requestsPerSecond: z.number().min(0.01).max(1_000).default(10),
      pageSize: z.int().min(1).max(10_000).default(500),
    },
    { error: 'must be an object' },
  ),
)

/** `website_sites.settings.erp`, checked. */
export type ErpSettings = z.output<typeof settingsSchema>

/** Reads `website_sites.settings.erp`. @throws AppError `misconfigured` naming what is wrong */
export function readErpSettings(settings: unknown): ErpSettings {
  const parsed = settingsSchema.safeParse(settings)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw wrong(issue?.path.join('.') ?? '', issue?.message ?? '')
}

function wrong(path: string, what: string): AppError {
  const field = ['settings', 'erp', ...(path === '' ? [] : [path])].join('.')
  return new AppError('misconfigured', `${field}: ${what}`, { field })
}

/** The streams that a site's ERP has. */
export const erpTypes = ({ streams }: Pick<ErpSettings, 'streams'>): SyncType[] =>
  [...new Set(streams)].map((stream) => types[stream])

/** Where the ERP of a site is, and how it is called. */
export interface ResolvedErp {
  url: string
  token: string | undefined
  settings: ErpSettings
}

/** Finds the ERP of a site. @throws AppError `misconfigured` naming what is wrong */
export function resolveErp(siteSettings: unknown, environment: ErpEnvironment, credentials: Credentials): ResolvedErp {
  const settings = readErpSettings(siteSettings)
  const url = settings.url ?? environment.url
  if (url === undefined)
    throw new AppError('misconfigured', 'no ERP is set up: set ERP_URL, or settings.erp.url of the site')
  const provider = settings.provider ?? environment.provider ?? 'http'
  if (provider !== 'http') throw wrong('provider', `${JSON.stringify(provider)} is unknown; there is http`)
  return { url, token: tokenFor(new URL(url), settings.credentials, environment, credentials), settings }
}

/** The ERP of a site. @throws AppError `misconfigured` naming what is wrong */
export function openErp(
  siteSettings: unknown,
  environment: ErpEnvironment,
  deps: ErpDeps,
): { connector: ErpConnector; settings: ErpSettings } {
  const { url, token, settings } = resolveErp(siteSettings, environment, deps.credentials)
  const { siteKey, pageSize, maxConcurrent, requestsPerSecond } = settings
  const connector = createHttpErp(
    {
      url,
      token,
      siteKey,
      pageSize,
      limits: { maxConcurrent, requestsPerSecond },
      types: erpTypes(settings),
    },
    { ...deps, redact: deps.credentials.redact },
  )
  return { connector, settings }
}

/** A secret that the row names goes to the hosts listed for it, the environment's own to its own ERP alone. */
function tokenFor(
  url: URL,
  name: string | undefined,
  { url: own, token }: ErpEnvironment,
  credentials: Credentials,
): string | undefined {
  if (name === undefined) return own !== undefined && new URL(own).origin === url.origin ? token : undefined
  try {
    return credentials.secretFor(name, url)
  } catch (error) {
    throw new AppError('misconfigured', `settings.erp.${messageOf(error)}`)
  }
}
