/** What a CRM is told of a submission; no field is longer than a CRM could want. */
export interface Lead {
  /** `web:submission:<id>`: what the CRM keeps it by, so that it can be found again. */
  reference: string
  siteId: number | null
  /** Name of the form. */
  form: string
  name?: string
  email?: string
  phone?: string
  company?: string
  message?: string
  /** Everything that was submitted, bounded. */
  fields: Record<string, unknown>
}

/** How an attempt to make a lead ended; `error` is for people and holds no secret. */
export type CreateResult =
  | { kind: 'made'; leadId: string }
  /** It may have been made, or may be yet: only a search will tell. */
  | { kind: 'unknown'; error: string; retryAfterMs: number | null }
  /** Surely not made; it can be tried again. */
  | { kind: 'unmade'; error: string; retryAfterMs: number | null }
  /** Surely not made, and the same lead never will be. */
  | { kind: 'rejected'; error: string }
  /** Surely not made, since the CRM can't be called as it is set up. */
  | { kind: 'unusable'; error: string }

export type FindResult =
  /** Ids of the leads with that reference, the oldest first where the CRM says so; empty when there is none. */
  | { kind: 'found'; leadIds: string[] }
  | { kind: 'unavailable'; error: string; retryAfterMs: number | null }
  | { kind: 'unusable'; error: string }

export interface CallOptions {
  signal: AbortSignal
  /** How long the call may take, where that is less than the provider's own deadline. */
  timeoutMs?: number
}

/** A CRM that leads are made at. Neither call rejects, follows a redirect or is repeated by itself. */
export interface CrmProvider {
  create(lead: Lead, options: CallOptions): Promise<CreateResult>
  find(reference: string, options: CallOptions): Promise<FindResult>
}
