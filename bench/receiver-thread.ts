import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parentPort } from 'node:worker_threads'

// A receiver with its own event loop, so that it doesn't take turns with what is measured.
const ids = new Map<string, number>()
let latencies: number[] = []
let total = 0

const server = createServer((request, response) => {
  request.resume()
  request.on('end', () => {
    total++
    const id = String(request.headers['webhook-id'] ?? total)
    ids.set(id, (ids.get(id) ?? 0) + 1)
    // Ids made by the bench carry the instant they were accepted at.
    const sentAt = /^t(\d+)_/.exec(id)?.[1]
    if (sentAt) latencies.push(Date.now() - Number(sentAt))
    response.writeHead(200).end()
  })
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => parentPort?.postMessage({ port: (server.address() as AddressInfo).port }))

parentPort?.on('message', (message: 'report' | 'reset') => {
  if (message === 'report') parentPort?.postMessage({ total, distinct: ids.size, latencies })
  ids.clear()
  latencies = []
  total = 0
})
