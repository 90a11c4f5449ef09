import { Gauge, type Registry } from 'prom-client'
import type { Db } from '../db/client.ts'
import { countDefault } from '../db/partitions/months.ts'
import { readPartitioned } from '../db/partitions/state.ts'
import { countExpiring } from '../db/queries/expiring.ts'
import { readIdHeadroom } from '../db/queries/id-headroom.ts'
import { atMost } from '../deadline.ts'

/** Gauges of what someone should look at before it hurts; returns what reads them, leaving them out when that takes too long. */
export function createMaintenanceMetrics(registry: Registry, deadlineMs: number): (db: Db) => Promise<void> {
  const registers = [registry]
  const headroom = new Gauge({
    name: 'website_worker_id_headroom_ratio',
    help: 'Share of the INTEGER ids of a table that are unused',
    labelNames: ['table'],
    registers,
  })
  const defaultRows = new Gauge({
    name: 'website_worker_partition_default_rows',
    help: 'Rows in the default partition, counted up to 1000: months that have no partition',
    labelNames: ['table'],
    registers,
  })
  const expiring = new Gauge({
    name: 'website_worker_expiring',
    help: 'Certificates that end within 14 days, or have, and active promotions that end within 3',
    labelNames: ['kind'],
    registers,
  })
  async function read(db: Db) {
    const tables = await readPartitioned(db)
    return {
      ids: await readIdHeadroom(db),
      rows: await Promise.all(tables.map(async (table) => ({ table, count: await countDefault(db, table, 1_000) }))),
      counts: await countExpiring(db),
    }
  }
  return async (db) => {
    const found = await atMost(deadlineMs, read(db)).catch(() => undefined)
    for (const gauge of [headroom, defaultRows, expiring]) gauge.reset()
    if (!found || found === 'late') return
    for (const { table, headroom: ratio } of found.ids) headroom.set({ table }, ratio)
    for (const { table, count } of found.rows) defaultRows.set({ table }, count)
    expiring.set({ kind: 'certificate' }, found.counts.certificates)
    expiring.set({ kind: 'promotion' }, found.counts.promotions)
  }
}
