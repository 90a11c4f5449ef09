import { AppError, messageOf } from '../../errors.ts'
import { createHttpCrm, httpCrmConfig, type HttpCrmDeps } from './http.ts'
import type { CrmProvider } from './provider.ts'

export type CrmDeps = HttpCrmDeps

/** A row of website_integrations. */
export interface Integration {
  id: number
  name: string
  provider: string
  config: unknown
}

const providers = ['http'] as const

/** What an integration is called in errors. */
export const integrationName = ({ id, name }: Pick<Integration, 'id' | 'name'>) =>
  `integration ${JSON.stringify(name.slice(0, 100))} (${id})`

/** The CRM behind a row of website_integrations. @throws AppError `misconfigured`, naming the row and what is wrong */
export function openCrm(integration: Integration, deps: CrmDeps): CrmProvider {
  const wrong = (what: string) => new AppError('misconfigured', `${integrationName(integration)}: ${what}`)
  if (integration.provider !== 'http')
    throw wrong(`provider ${JSON.stringify(integration.provider)} is unknown; there is ${providers.join(', ')}`)
  const parsed = httpCrmConfig.safeParse(integration.config)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw wrong(['config', ...(issue?.path ?? [])].join('.') + `: ${issue?.message}`)
  }
  let crm: CrmProvider
  try {
    crm = createHttpCrm(parsed.data, deps)
  } catch (error) {
    throw wrong(`config.${messageOf(error)}`)
  }
  return {
    create: async (...args) => named(await crm.create(...args)),
    find: async (...args) => named(await crm.find(...args)),
  }

  function named<R extends { kind: string }>(result: R): R {
    if (result.kind !== 'unusable' || !('error' in result)) return result
    return { ...result, error: `${integrationName(integration)}: config.url: ${String(result.error)}` }
  }
}
