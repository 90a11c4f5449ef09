import { sql } from 'drizzle-orm'
import { pino } from 'pino'
import { z } from 'zod'
import type { Db } from '../../src/db/client.ts'
import { openLanes } from '../../src/db/queries/lanes.ts'
import type { Outcome, RunContext } from '../../src/processors/contract.ts'
import { defineJob, type JobDefinition } from '../../src/queues/define-job.ts'
import { ringLanes } from '../../src/work/lanes.ts'
import { createStack, type StackOptions, type TestJob } from '../fixtures/stack.ts'

/** Goes to a remote: its items differ by `n`. */
const definition = defineJob({
  name: 'call-out',
  domain: 'maintenance',
  schema: z.object({ n: z.number().int(), to: z.string() }),
  key: ['n'],
  retry: { waitsMs: [0, 60_000] },
  worker: { concurrency: 50 },
}) as unknown as JobDefinition

type Payload = { n: number; to: string }
export type Process = (payload: Payload, context: RunContext) => Promise<Outcome>

/** As a processor with lanes finds them: by what the payload says. */
async function lanes(db: Db, items: readonly { workId: number; payload: Payload }[]) {
  const column = items.map(({ payload }) => payload.to)
  const { rows } = await db.execute(
    sql`SELECT to_lane, website_worker.is_managed(to_lane) AS managed FROM unnest(${sql.param(column)}::text[]) AS r(to_lane)`,
  )
  const managed = new Map(rows.map((row) => [row.to_lane as string, row.managed as boolean]))
  return new Map(
    items.map(({ workId, payload }) => [workId, { lane: payload.to, isManaged: managed.get(payload.to) === true }]),
  )
}

/** The heart with a job that has lanes, and hands to put items in them. */
export async function createLaneStack(
  process: Process = async () => ({ kind: 'done' }),
  options: Partial<StackOptions> = {},
) {
  const job = {
    definition,
    processor: { process: (payload: Payload, _: unknown, context: RunContext) => process(payload, context), lanes },
  } as unknown as TestJob
  const stack = await createStack({ backend: 'redis', jobs: [job], ...options })
  const { db } = stack
  const deps = { db, bell: stack.bell, log: pino({ level: 'silent' }) }
  let n = 0
  const count = async (where: ReturnType<typeof sql>) =>
    Number((await db.execute(sql`SELECT count(*)::int AS n FROM website_worker.work w WHERE ${where}`)).rows[0]?.n)
  return {
    ...stack,
    deps,
    ringLanes: () => ringLanes(deps),
    /** Items that wait in a lane, the first the longest; due `inSeconds`. */
    async park(lane: string, items: number, inSeconds = -60) {
      const [first, last] = [n + 1, n + items]
      n += items
      await openLanes(db, [lane])
      const { rows } = await db.execute(
        sql`INSERT INTO website_worker.work (job, key, payload, lane, next_at)
            SELECT 'call-out', i::text, jsonb_build_object('n', i, 'to', ${lane}::text), ${lane},
              now() + ${inSeconds} * interval '1 s' + (i - ${first}::int) * interval '1 ms'
            FROM generate_series(${first}::int, ${last}::int) AS s(i) ORDER BY s.i RETURNING id`,
      )
      return rows.map((row) => Number(row.id))
    },
    rung: (lane: string) => count(sql`w.lane = ${lane} AND w.state = 'owed' AND w.rung_at IS NOT NULL`),
    parked: (lane: string) => count(sql`w.lane = ${lane} AND w.state = 'owed' AND w.rung_at IS NULL`),
    inState: (state: string) => count(sql`w.state = ${state}`),
    async lane(lane: string) {
      return (await db.execute(sql`SELECT * FROM website_worker.lanes WHERE lane = ${lane}`)).rows[0]
    },
    change: (lane: string, set: ReturnType<typeof sql>) =>
      db.execute(sql`UPDATE website_worker.lanes SET ${set} WHERE lane = ${lane}`),
    limit: (lane: string, maxConcurrent: number | null, requestsPerSecond: number | null) =>
      db.execute(
        sql`INSERT INTO website_worker.lane_limits (lane, max_concurrent, requests_per_second)
            VALUES (${lane}, ${maxConcurrent}, ${requestsPerSecond})
            ON CONFLICT (lane) DO UPDATE SET max_concurrent = ${maxConcurrent}, requests_per_second = ${requestsPerSecond}`,
      ),
    /** Delays of what waits for its time in the queue, ms, in order. */
    async delays() {
      const jobs = await stack.backend.queue('call-out').getDelayed()
      return jobs.map((each) => each.opts.delay ?? 0).toSorted((a, b) => a - b)
    },
  }
}

export type LaneStack = Awaited<ReturnType<typeof createLaneStack>>
