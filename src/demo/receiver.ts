import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A shop's own server as it would stand on the internet: checks the signature and answers as told. */
export interface DemoReceiver {
  url: string
  /** What came, in order; `valid` says whether the signature was right. */
  received: { eventId: string; valid: boolean; status: number }[]
  close(): Promise<void>
}

function isSigned(secret: string, request: IncomingMessage, body: Buffer): boolean {
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
  const signed = `${request.headers['webhook-id']}.${request.headers['webhook-timestamp']}.`
  const expected = createHmac('sha256', key).update(signed).update(body).digest()
  const given = String(request.headers['webhook-signature'] ?? '')
    .split(' ')
    .map((part) => Buffer.from(part.slice('v1,'.length), 'base64'))
  return given.some((signature) => signature.length === expected.length && timingSafeEqual(signature, expected))
}

/** Starts a receiver on loopback; `answer` gets the number of the request, from 1. */
export async function startReceiver(secret: string, answer: (request: number) => number): Promise<DemoReceiver> {
  const received: DemoReceiver['received'] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const status = answer(received.length + 1)
      const eventId = String(request.headers['webhook-id'])
      received.push({ eventId, valid: isSigned(secret, request, Buffer.concat(chunks)), status })
      response.writeHead(status, { 'content-type': 'text/plain' }).end(status < 300 ? 'thank you' : 'not now')
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}
