import { openErp, type ErpDeps, type ErpEnvironment } from '../../clients/erp/settings.ts'
import type { ErpSite } from '../../db/queries/sync/sites.ts'
import type { SiteErp } from './deps.ts'

/** Opens the ERPs of sites: what the environment says, and before that what each site's own settings do. */
export function createErpOpener(environment: ErpEnvironment, deps: ErpDeps): (site: ErpSite) => SiteErp {
  return ({ settings: ofSite }) => {
    const { connector, settings } = openErp(ofSite ?? undefined, environment, deps)
    return { connector, pushesOrders: settings.pushOrders !== 'off', fields: settings.fields ?? null }
  }
}
