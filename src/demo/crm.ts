import { createServer } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net'

/** A CRM as it would stand on the internet; the first lead it gets is made, but the connection drops before it says so. */
export interface DemoCrm {
  url: string
  /** References of the leads it made, in order. */
  leads: string[]
  close(): Promise<void>
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return (server.address() as AddressInfo).port
}

const closing = (server: Server) => () =>
  new Promise<void>((resolve) => {
    server.close(() => resolve())
  })

/** Starts a CRM on loopback that keeps the contract of docs/crm.md. */
export async function startDemoCrm(): Promise<DemoCrm> {
  const leads: string[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const answer = (body: unknown) =>
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
      if (request.method === 'GET') {
        const reference = new URL(request.url ?? '/', 'http://crm').searchParams.get('reference')
        const items = leads.flatMap((each, index) => (each === reference ? [{ id: 1_001 + index }] : []))
        return answer({ items })
      }
      const { reference } = JSON.parse(Buffer.concat(chunks).toString()) as { reference: string }
      const count = leads.push(reference)
      return count === 1 ? request.socket.destroy() : answer({ id: 1_000 + count })
    })
  })
  const port = await listen(server)
  const close = closing(server)
  return {
    url: `http://127.0.0.1:${port}`,
    leads,
    close: () => {
      server.closeAllConnections()
      return close()
    },
  }
}

/** A mail server that takes everything and delivers nothing. */
export interface DemoMailServer {
  port: number
  /** Mails as they came. */
  mails: string[]
  close(): Promise<void>
}

/** Starts a mail server on loopback that speaks as much SMTP as it takes (RFC 5321). */
export async function startDemoMailServer(): Promise<DemoMailServer> {
  const mails: string[] = []
  const server = createTcpServer((socket) => {
    let rest = ''
    let mail: string[] | undefined
    socket.on('error', () => {})
    socket.write('220 demo\r\n')
    socket.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split('\r\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        if (mail && line !== '.') mail.push(line)
        else if (mail) {
          mails.push(mail.join('\n'))
          mail = undefined
          socket.write('250 taken\r\n')
        } else if (/^DATA/i.test(line)) {
          mail = []
          socket.write('354 go on\r\n')
        } else if (/^QUIT/i.test(line)) socket.end('221 bye\r\n')
        else socket.write('250 ok\r\n')
      }
    })
  })
  return { port: await listen(server), mails, close: closing(server) }
}
