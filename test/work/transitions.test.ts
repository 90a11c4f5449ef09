import { randomUUID } from 'node:crypto'
import { sql } from 'drizzle-orm'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import * as transitions from '../../src/work/transitions.ts'
import { createTestDatabase, type TestDatabase } from '../fixtures/database.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

type State = 'owed' | 'running' | 'held' | 'done' | 'failed' | 'cancelled'
interface Row {
  id: number
  state: State
  generation: number
  attempts: number
  rung: boolean
  token: string | null
  finished: boolean
}

async function insert(key: string): Promise<number> {
  const { rows } = await database.db.execute(
    sql`INSERT INTO website_worker.work (job, key, site_id, payload) VALUES ('j', ${key}, 1, '{}') RETURNING id`,
  )
  return Number(rows[0]?.id)
}

async function read(id: number): Promise<Row> {
  const { rows } = await database.db.execute(
    sql`SELECT state, generation, attempts, rung_at IS NOT NULL AS rung, lease_token, finished_at IS NOT NULL AS finished
        FROM website_worker.work WHERE id = ${id}`,
  )
  const row = rows[0]!
  return {
    id,
    state: row.state as State,
    generation: row.generation as number,
    attempts: row.attempts as number,
    rung: row.rung as boolean,
    token: row.lease_token as string | null,
    finished: row.finished as boolean,
  }
}

const end = (row: { id: number; attempts: number; token: string | null }, outcome: transitions.Finish['outcome']) =>
  transitions.finish(database.db, [
    {
      workId: row.id,
      attemptsBefore: row.attempts,
      leaseToken: row.token,
      outcome,
      waitMs: outcome === 'retry' ? 0 : null,
      lane: null,
      error: null,
      reason: outcome === 'held' ? 'h' : null,
      result: null,
    },
  ])

const steps = [
  'retry',
  'promote',
  'cancel',
  'giveUp',
  'holdSite',
  'lease',
  'markRung',
  'rearm',
  'rearmRung',
  'begin',
  'end done',
  'end retry',
  'end held',
  'end failed',
  'end leased done',
  'end leased retry',
  'renew',
  'return',
] as const

/** What each transition may lead to from each state; anything else must leave the row as it was. */
const allowed: Record<string, Partial<Record<State, State>>> = {
  retry: { failed: 'owed', cancelled: 'owed', done: 'owed', held: 'owed' },
  promote: { owed: 'owed' },
  cancel: { owed: 'cancelled', running: 'cancelled', held: 'cancelled' },
  giveUp: { owed: 'failed' },
  holdSite: { owed: 'held' },
  lease: { owed: 'running' },
  markRung: { owed: 'owed' },
  rearm: { owed: 'owed' },
  rearmRung: { owed: 'owed' },
  begin: {},
  renew: {},
  return: { running: 'owed' },
  'end done': { owed: 'done', held: 'done' },
  'end retry': { owed: 'owed', held: 'held' },
  'end held': { owed: 'held', held: 'held' },
  'end failed': { owed: 'failed', held: 'failed' },
  'end leased done': { running: 'done' },
  'end leased retry': { running: 'owed' },
}

test('no order of transitions leaves a work item in a state its rules forbid', async () => {
  const { db } = database
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...steps), { minLength: 1, maxLength: 25 }), async (sequence) => {
      const id = await insert(randomUUID())
      // What a run under way remembers: where it began, and its lease.
      let unleased = await read(id)
      let leased: Row = { ...unleased, token: randomUUID() }
      for (const step of sequence) {
        const before = await read(id)
        const token = randomUUID()
        if (step === 'retry') await transitions.retry(db, [id], 'retry')
        else if (step === 'promote') await transitions.promote(db, [id])
        else if (step === 'cancel') await transitions.cancel(db, [id], 'because')
        else if (step === 'giveUp') await transitions.giveUp(db, [id], 'broken')
        else if (step === 'holdSite') await transitions.holdSite(db, ['j'], 1, 'paused')
        else if (step === 'markRung') await transitions.markRung(db, [{ workId: id, generation: before.generation }])
        else if (step === 'rearm') await transitions.rearm(db, [{ workId: id, generation: before.generation }])
        else if (step === 'rearmRung') await transitions.rearmRung(db, new Date(Date.now() + 1_000), 100)
        else if (step === 'renew') await transitions.renewLease(db, id, leased.token ?? '', 1_000)
        else if (step === 'return') await transitions.returnLease(db, id, leased.token ?? '')
        else if (step === 'begin') unleased = before
        else if (step === 'lease') {
          if (await transitions.takeLease(db, { workId: id, generation: before.generation }, token, 60_000))
            leased = { ...before, token }
        } else if (step.startsWith('end leased')) await end(leased, step.endsWith('done') ? 'done' : 'retry')
        else await end({ ...unleased, token: null }, step.slice(4) as never)

        const after = await read(id)
        const expected = allowed[step]?.[before.state]
        if (after.state !== before.state)
          expect([step, before.state, after.state]).toEqual([step, before.state, expected])
        expect(after.generation).toBeGreaterThanOrEqual(before.generation)
        // A new reason to run is a new generation, and has not been rung.
        if (after.state === 'owed' && before.state !== 'owed') {
          expect(after.generation).toBeGreaterThan(before.generation)
          expect(after.rung).toBe(false)
        }
        expect(after.finished).toBe(['done', 'failed', 'cancelled'].includes(after.state))
        expect(after.token !== null).toBe(after.state === 'running')
        if (step === 'end retry' && before.attempts !== unleased.attempts) expect(after).toEqual(before)
        if (step.startsWith('end leased') && before.token !== leased.token) expect(after).toEqual(before)
      }
    }),
    { numRuns: 150 },
  )
})

test('a second unfinished item of the same key is impossible, by insert and by retry', async () => {
  const key = randomUUID()
  const first = await insert(key)
  await expect(insert(key)).rejects.toThrow()
  await transitions.cancel(database.db, [first], 'because')
  const second = await insert(key)
  expect(await transitions.retry(database.db, [first], 'retry')).toEqual([])
  await transitions.cancel(database.db, [second], 'because')
  expect(await transitions.retry(database.db, [first], 'retry')).toMatchObject([{ workId: first, attempts: 0 }])
})

test('of two runs of one item the first to end counts', async () => {
  const id = await insert(randomUUID())
  const before = await read(id)
  expect(await end({ ...before, token: null }, 'retry')).toEqual(new Set([id]))
  expect(await end({ ...before, token: null }, 'failed')).toEqual(new Set())
  expect(await read(id)).toMatchObject({ state: 'owed', attempts: 1 })
  expect(await end({ ...before, token: null }, 'done')).toEqual(new Set([id]))
})
