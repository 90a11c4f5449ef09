import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'

// Receivers with their own event loop, so that they don't take turns with what is measured.
const { receivers } = workerData as { receivers: number }
const ids = new Map<string, number>()
let latencies: number[] = []
let total = 0
/** How many of the receivers, from the first, never answer. */
let hanging = 0

function receiver(index: number): Server {
  const server = createServer((request, response) => {
    request.resume()
    if (index < hanging) return
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
  return server.listen(0, '127.0.0.1')
}

const servers = Array.from({ length: receivers }, (_, index) => receiver(index))
await Promise.all(servers.map((server) => new Promise((resolve) => server.once('listening', resolve))))
parentPort?.postMessage({ ports: servers.map((server) => (server.address() as AddressInfo).port) })

parentPort?.on('message', (message: 'report' | { hanging: number }) => {
  if (message !== 'report') {
    hanging = message.hanging
    return
  }
  parentPort?.postMessage({ total, distinct: ids.size, latencies })
  ids.clear()
  latencies = []
  total = 0
})
