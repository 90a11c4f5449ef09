/** How an ERP may be called, over all processes together. */
export interface ErpLimits {
  /** Calls in flight. */
  maxConcurrent: number
  requestsPerSecond: number
}

/** How a call went, as far as others have to know. */
export interface TurnOutcome {
  /** `unknown`: it was broken off by us, which says nothing about the ERP. */
  kind: 'answered' | 'failed' | 'unknown'
  /** How long the ERP asked to be left alone. Default: it didn't. */
  askedMs?: number
}

export type ErpTurn =
  | {
      kind: 'go'
      /** Gives the turn back. Never rejects: a turn also lapses by itself. */
      leave(outcome: TurnOutcome): Promise<void>
    }
  /**
   * Not now. `open`: the breaker is; `asked`: the ERP wants to be left alone; `busy`: others take all its calls;
   * `stopped`: by the signal.
   */
  | { kind: 'wait'; why: 'open' | 'asked' | 'busy' | 'stopped'; ms: number }

/** Shares out the calls to each ERP. */
export interface ErpTurns {
  /** Waits for a turn, some seconds at most. `callMs`: by then the call is over. */
  enter(origin: string, limits: ErpLimits, options: { callMs: number; signal: AbortSignal }): Promise<ErpTurn>
}
