import type { Db } from '../db/client.ts'
import { lanesOfDeliveries, loadDeliveries, type LoadedDelivery } from '../db/queries/deliver.ts'
import { readLanes } from '../db/queries/lanes.ts'
import type { DeliverWebhookPayload } from '../queues/deliver-webhook.ts'

/** A longer one is nobody's host, and too long for an index. */
const longestOrigin = 300

function originOf(targetUrl: string): string | undefined {
  if (!URL.canParse(targetUrl)) return undefined
  const { protocol, origin } = new URL(targetUrl)
  return /^https?:$/.test(protocol) && origin.length <= longestOrigin ? origin : undefined
}

interface Placed {
  targetUrl: string | null
  lane: string | null
  isManaged: boolean | null
  isOpen?: boolean
}

/**
 * Puts deliveries into the lane of the origin that is dialled, where the URL is written in a way that SQL reads otherwise
 * (`http:/host`, `0x7f.1`, `münchen.example`): nobody evades a limit by spelling.
 */
async function byOrigin<Row extends Placed>(db: Db, rows: readonly Row[]): Promise<readonly Row[]> {
  const origins = new Map<string, string | undefined>()
  for (const { targetUrl } of rows)
    if (targetUrl !== null && !origins.has(targetUrl)) origins.set(targetUrl, originOf(targetUrl))
  const isOdd = ({ targetUrl, lane }: Row) => {
    const origin = origins.get(targetUrl ?? '')
    return origin !== undefined && origin !== lane
  }
  const odd = rows.filter(isOdd)
  if (odd.length === 0) return rows
  const lanes = await readLanes(db, [...new Set(odd.map(({ targetUrl }) => origins.get(targetUrl!)!))])
  return rows.map((row) => {
    if (!isOdd(row)) return row
    const lane = origins.get(row.targetUrl!)!
    return { ...row, lane, ...lanes.get(lane) }
  })
}

/** What runs of deliveries need, by work item. */
export async function loadRuns(
  db: Db,
  items: readonly { workId: number; payload: DeliverWebhookPayload }[],
): Promise<Map<number, LoadedDelivery>> {
  const loaded = await loadDeliveries(
    db,
    items.map((item) => item.payload.deliveryId),
  )
  const byDelivery = new Map((await byOrigin(db, loaded)).map((row) => [row.deliveryId, row]))
  const byItem = new Map<number, LoadedDelivery>()
  for (const { workId, payload } of items) {
    const row = byDelivery.get(payload.deliveryId)
    if (row) byItem.set(workId, row)
  }
  return byItem
}

/** The lanes of deliveries, by work item; without those that go nowhere. */
export async function lanesOf(
  db: Db,
  items: readonly { workId: number; payload: DeliverWebhookPayload }[],
): Promise<Map<number, { lane: string; isManaged: boolean }>> {
  const found = [...(await lanesOfDeliveries(db, items))]
  const rows = await byOrigin(
    db,
    found.map(([workId, row]) => ({ workId, ...row })),
  )
  return new Map(rows.map(({ workId, lane, isManaged }) => [workId, { lane, isManaged }]))
}
