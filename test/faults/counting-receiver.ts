import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { opened } from '../fixtures/open-fixtures.ts'

export interface CountingReceiver {
  url: string
  /** Requests whose body was complete. */
  readonly count: number
  close(): Promise<void>
}

/** A receiver that keeps nothing of what it gets. */
export async function startCountingReceiver(
  answer: (response: ServerResponse) => void = (response) => void response.writeHead(204).end(),
): Promise<CountingReceiver> {
  let count = 0
  const server = createServer((request, response) => {
    request.resume().once('end', () => {
      count += 1
      answer(response)
    })
    response.on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const closed = opened(`counting receiver on port ${port}`)
  return {
    url: `http://127.0.0.1:${port}`,
    get count() {
      return count
    },
    async close() {
      if (!server.listening) return
      const ended = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await ended
      closed()
    },
  }
}
