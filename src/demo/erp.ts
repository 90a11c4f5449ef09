import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A record of a stream, as the contract of docs/erp.md says. */
type DemoRecord = Readonly<Record<string, unknown>> & { sku: string; version: number }

/** An ERP as it would stand in a warehouse. */
export interface DemoErp {
  url: string
  /** Sets a price, as someone at the ERP would. */
  reprice(sku: string, price: string): void
  /** Requests so far. */
  readonly requests: number
  close(): Promise<void>
}

const wares: readonly (readonly [name: string, price: string, quantity: number])[] = [
  ['Oak table', '449.00', 3],
  ['Oak chair', '89.90', 24],
  ['Bench', '129.00', 7],
  ['Stool', '39.90', 40],
  ['Shelf', '-5.00', 12],
  ['Lamp', '59.00', 15],
]
const skuOf = (index: number) => `WARE-${index + 1}`

function makeStreams(): Record<string, DemoRecord[]> {
  const version = 1
  return {
    products: wares.map(([name, price], index) => ({ id: 501 + index, sku: skuOf(index), name, price, version })),
    inventory: wares.map(([, , quantity], index) => ({ sku: skuOf(index), quantity, version })),
    prices: wares.flatMap(([, price], index) => (price.startsWith('-') ? [] : { sku: skuOf(index), price, version })),
  }
}

/** Starts an ERP on loopback with six wares, one of which has a price that can't be. */
export async function startDemoErp(): Promise<DemoErp> {
  const streams = makeStreams()
  let version = 1
  let requests = 0
  const server = createServer((request, response) => {
    requests++
    const url = new URL(request.url ?? '/', 'http://erp')
    const records = streams[url.pathname.slice(1)]
    // Few enough for one page: there is never a cursor.
    const since = Number(url.searchParams.get('since') ?? 0)
    const skus = url.searchParams.get('skus')?.split(',')
    const items = records?.filter((record) => record.version > since && (skus?.includes(record.sku) ?? true))
    const answer = records ? { items, nextCursor: null, checkpoint: String(version) } : { error: 'no such stream' }
    response.writeHead(records ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    reprice(sku, price) {
      version++
      streams['prices'] = streams['prices']!.map((each) => (each.sku === sku ? { ...each, price, version } : each))
    },
    get requests() {
      return requests
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
