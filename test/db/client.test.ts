import { sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { createDatabase, type Db, transact } from '../../src/db/client.ts'
import { createTestDatabase } from '../fixtures/database.ts'
import { maintaining } from './partitions/conversion.ts'

test('transactions see in each statement what was committed before it, whatever the database says', async () => {
  const database = await createTestDatabase()
  const { pathname } = new URL(database.url)
  await database.pool.query(`ALTER DATABASE ${pathname.slice(1)} SET default_transaction_isolation = 'serializable'`)
  const reopened = createDatabase({ url: database.url })
  const isolationOf = (db: Db) =>
    db.transaction(async (tx) => (await tx.execute(sql`SHOW transaction_isolation`)).rows[0]!.transaction_isolation)
  try {
    expect(await isolationOf(reopened.db)).toBe('read committed')
    expect(await transact(reopened.db, (tx) => isolationOf(tx))).toBe('read committed')
    expect(await maintaining(database, isolationOf)).toBe('read committed')
  } finally {
    await reopened.close()
    await database.drop()
  }
})
