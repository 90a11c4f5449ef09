import type { ErpConnector } from '../../clients/erp/connector.ts'
import type { Db } from '../../db/client.ts'
import type { ErpSite } from '../../db/queries/sync/sites.ts'
import type { SyncType } from '../../erp.ts'

/** The ERP of a site, as its settings and the environment have it. */
export interface SiteErp {
  connector: ErpConnector
  /** Orders go to it: what they took is taken off its stock. */
  pushesOrders: boolean
  /** Fields that it writes, of those that can be left to the shop. Null: all. */
  fields: readonly string[] | null
}

export interface SyncDeps {
  sync: {
    /** Its statements may take long, and wait a while for rows that someone has locked. */
    db: Db
    /** The ERP of a site. @throws AppError when the site has none, or it can't be used as it is set up */
    open(site: ErpSite): SiteErp
    /** The environment names an ERP for sites without one of their own. */
    hasDefault: boolean
    /** Hears how a request for a page ended. Default: nobody does. */
    erpCalled?(outcome: string): void
    /** Hears what a run did to so many rows. Default: nobody does. */
    rowsSynced?(type: SyncType, change: string, rows: number): void
  }
}
