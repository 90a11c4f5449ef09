import type { ErpRecords, SyncType } from '../../erp.ts'

/** One page of a stream is asked for. */
export interface ErpPageRequest {
  type: SyncType
  /** The ERP's own word from an earlier traversal: only what changed since. Default: everything. */
  since?: string | undefined
  /** The ERP's own word from the page before. Default: the first page. */
  cursor?: string | undefined
  /** Only these. Default: all. */
  skus?: readonly string[] | undefined
  /** For the `User-Agent`. */
  siteId: number
  runId: number
  signal: AbortSignal
}

/** How a request for a page ended; `error` is for people and holds no secret. Short retries are behind it. */
export type ErpPageResult =
  | {
      kind: 'page'
      /** Only the lists of the request's type are filled. */
      records: ErpRecords
      /** Null after the last page. */
      nextCursor: string | null
      /** What `since` of the next traversal is, if this is the first page of this one. */
      checkpoint: string
    }
  /** The checkpoint or the cursor has expired: everything has to be read. */
  | { kind: 'expired' }
  /** Not now: asked again later, at the earliest in `retryAfterMs` where the ERP, a limit or the breaker says so. */
  | { kind: 'unavailable'; error: string; retryAfterMs: number | null; isBreakerOpen: boolean }
  /** Never, as it is set up: wrong token, wrong address, not that contract. */
  | { kind: 'unusable'; error: string }

/** An ERP that a site is synced from. */
export interface ErpConnector {
  /** Scheme, host and port: what limits and breaker are kept by. */
  origin: string
  /** Changes when checkpoints of before mean nothing any more, e.g. another URL or key. */
  source: string
  /** The streams it has; where there is no `price`, prices come with the products. */
  types: readonly SyncType[]
  /** SKUs that may be asked for in one request. */
  mostSkus: number
  /** Never rejects. */
  page(request: ErpPageRequest): Promise<ErpPageResult>
}
