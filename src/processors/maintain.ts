import type { Logger } from 'pino'
import { archiveOld } from '../db/archive/run.ts'
import type { Db } from '../db/client.ts'
import { keepPartitions } from '../db/partitions/upkeep.ts'
import { analyzeChanged } from '../db/queries/analyze.ts'
import { readExpiring } from '../db/queries/expiring.ts'
import { prune } from '../db/queries/prune.ts'
import { pruneShop } from '../db/queries/prune-shop.ts'
import { pruneSubmissions } from '../db/queries/prune-submissions.ts'
import { forgetClassified } from '../db/queries/rollups/classify.ts'
import { disableFailing, failingForMs, noteReactivated } from '../db/queries/webhook-health.ts'
import type { Processor } from './contract.ts'

export interface MaintainDeps {
  db: Db
  payloadsDays: number
  /** Default: the ledger is kept. */
  deliveriesDays?: number | undefined
  /** Default: carts are kept. */
  cartsDays?: number | undefined
  /** Default: the logs of syncs are kept. */
  syncLogsDays?: number | undefined
  /** Default: nothing is archived. */
  archive?: { dir: string; afterMonths: number } | undefined
}

/** What a run does, in order; each goes on even if one before it failed, and fails the run at its end. */
type Step = (deps: MaintainDeps, log: Logger, signal: AbortSignal) => Promise<Record<string, unknown>>

const steps: Readonly<Record<string, Step>> = {
  async webhooks({ db }, log) {
    const reactivated = await noteReactivated(db, 'all')
    for (const webhook of reactivated) log.info(webhook, 'webhook is on again: its failures before count no more')
    // Where deliveries run, their ends are judged; here, what no delivery comes for any more.
    const disabled = await disableFailing(db, 'all', failingForMs)
    for (const webhook of disabled) log.warn(webhook, 'webhook disabled: it did nothing but fail')
    return { reactivated: reactivated.length, disabled: disabled.length }
  },
  async partitions({ db }, log) {
    const kept = await keepPartitions(db)
    for (const { table, made, defaultRows, problem } of kept) {
      if (made.length > 0) log.info({ table, made }, 'made partitions')
      if (defaultRows > 0) log.warn({ table, defaultRows, problem }, 'the default partition holds rows')
      else if (problem !== undefined) log.warn({ table, problem }, 'partitions are missing')
    }
    return { partitions: kept.flatMap(({ made }) => made).length }
  },
  async archive({ db, archive }, log, signal) {
    if (!archive) return {}
    const months = await archiveOld(db, { ...archive, signal })
    for (const { refused, ...month } of months) {
      if (refused === undefined) log.info(month, 'archived')
      else log.warn({ ...month, reason: refused }, 'not archived: no row was dropped')
    }
    return {
      archived: months.reduce((sum, month) => sum + month.rows, 0),
      archiveRefused: months.flatMap(({ table, month, refused }) =>
        refused ? [{ table, month, reason: refused }] : [],
      ),
    }
  },
  prune: ({ db, payloadsDays, deliveriesDays }, _log, signal) => prune(db, { payloadsDays, deliveriesDays, signal }),
  submissions: async ({ db }, _log, signal) => ({ submissions: await pruneSubmissions(db, signal) }),
  shop: async ({ db, cartsDays, syncLogsDays }, _log, signal) => ({
    ...(await pruneShop(db, { cartsDays, syncLogsDays, signal })),
  }),
  classified: async ({ db }, _log, signal) => ({ forgotten: await forgetClassified(db, signal) }),
  analyze: async ({ db }, _log, signal) => ({ analyzed: await analyzeChanged(db, signal) }),
  async expiring({ db }, log) {
    const expiring = await readExpiring(db)
    for (const certificate of expiring.certificates) log.warn(certificate, 'certificate is about to expire')
    for (const promotion of expiring.promotions) log.info(promotion, 'promotion is about to end')
    return { ...expiring }
  },
}

export const maintainProcessor: Processor<Record<string, never>, MaintainDeps> = {
  async process(_payload, deps, { log, signal }) {
    const result: Record<string, unknown> = {}
    const failures: unknown[] = []
    for (const [step, run] of Object.entries(steps)) {
      if (signal.aborted) return { kind: 'retry', error: 'stopped on the way' }
      try {
        Object.assign(result, await run(deps, log, signal))
      } catch (err) {
        if (signal.aborted) return { kind: 'retry', error: 'stopped on the way' }
        log.error({ step, err }, 'a step of maintenance failed')
        failures.push(err)
      }
    }
    // One folder that can't be written to must not keep the rest from being done.
    if (failures.length > 0) throw failures[0]
    return { kind: 'done', result }
  },
}
