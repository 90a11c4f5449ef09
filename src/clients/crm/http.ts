import { z } from 'zod'
import type { Credentials } from '../credentials.ts'
import type { JsonCaller, JsonResult } from '../json-call.ts'
import type { CreateResult, CrmProvider } from './provider.ts'

/** `website_integrations.config` of a CRM that is called as docs/crm.md says. */
export const httpCrmConfig = z.object({
  url: z
    .url({ protocol: /^https?$/, error: 'must be an http(s) URL' })
    .refine((url) => !URL.canParse(url) || (new URL(url).username === '' && new URL(url).password === ''), {
      error: 'must not hold a user or password; name a credential in `credentials`',
    }),
  credentials: z.string({ error: 'must be the name of a credential, like HUBSPOT' }).optional(),
})

export type HttpCrmConfig = z.infer<typeof httpCrmConfig>

export interface HttpCrmDeps {
  caller: JsonCaller
  credentials: Credentials
}

const leadId = z.unknown().transform((id, context): string => {
  if (typeof id === 'number' && Number.isSafeInteger(id)) return String(id)
  if (typeof id === 'string' && /^[^\p{Cc}\p{Cs}]{1,255}$/u.test(id)) return id
  context.addIssue(typeof id === 'number' ? 'too large to be exact: send it as text' : 'no id')
  return z.NEVER
})
const created = z.object({ id: leadId })
const found = z.object({ items: z.array(z.object({ id: leadId, reference: z.string().optional() })).max(1_000) })

/** What a CRM can't do anything about by being asked again. */
const rejections: readonly number[] = [400, 413, 415, 422]

/** Where `/leads` of a CRM is; a query of its URL stays. */
function leadsUrl(base: string): URL {
  const url = new URL(base)
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/leads`
  url.hash = ''
  return url
}

/** A CRM behind the HTTP contract of docs/crm.md. @throws AppError `refused` when its credentials may not go there */
export function createHttpCrm(config: HttpCrmConfig, { caller, credentials }: HttpCrmDeps): CrmProvider {
  const url = leadsUrl(config.url)
  const secret = config.credentials === undefined ? undefined : credentials.secretFor(config.credentials, url)
  const headers: Record<string, string> = secret === undefined ? {} : { authorization: `Bearer ${secret}` }

  /** Without the secret, which a CRM may well repeat in what it answers. */
  const redacted = (text: string) => credentials.redact(text)

  return {
    async create(lead, options) {
      const result = await caller.call({
        method: 'POST',
        url,
        headers: { ...headers, 'idempotency-key': lead.reference },
        body: lead,
        schema: created,
        ...options,
      })
      if (result.kind === 'answer') return { kind: 'made', leadId: result.value.id }
      return judge(result, redacted(result.error))
    },

    async find(reference, options) {
      const search = new URL(url)
      search.searchParams.set('reference', reference)
      const result = await caller.call({ method: 'GET', url: search, headers, schema: found, ...options })
      if (result.kind === 'answer') {
        // A CRM that doesn't know the parameter might answer with all it has.
        const ours = result.value.items.filter((item) => (item.reference ?? reference) === reference)
        return { kind: 'found', leadIds: [...new Set(ours.map((item) => item.id))] }
      }
      const error = redacted(result.error)
      if (isUnusable(result)) return { kind: 'unusable', error }
      return { kind: 'unavailable', error, retryAfterMs: result.kind === 'error' ? result.retryAfterMs : null }
    },
  }
}

type Failed = Exclude<JsonResult<unknown>, { kind: 'answer' }>

const isUnusable = (result: Failed) =>
  result.kind === 'none' && (result.cause === 'refused' || result.cause === 'unusable')

function judge(result: Failed, error: string): CreateResult {
  if (isUnusable(result)) return { kind: 'unusable', error }
  const retryAfterMs = result.kind === 'error' ? result.retryAfterMs : null
  // A conflict over the idempotency key: it is there already, or an earlier request is still being worked on.
  const isConflict = result.kind === 'error' && result.statusCode === 409
  if (result.mayHaveWorked || isConflict) return { kind: 'unknown', error, retryAfterMs }
  if (result.kind === 'error' && rejections.includes(result.statusCode)) return { kind: 'rejected', error }
  return { kind: 'unmade', error, retryAfterMs }
}
