import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyRequest } from 'fastify'

/** Someone who may open the board; `ro` looks, `rw` also acts. */
export interface BoardUser {
  name: string
  password: string
  access: 'rw' | 'ro'
}

/** Why a request is turned away, in words for a person. */
export interface Refusal {
  status: 401 | 403
  title: string
  detail: string
}

export interface BoardAccess {
  /** Who sends the request; undefined when nobody we know. */
  identify(headers: IncomingHttpHeaders): Pick<BoardUser, 'name' | 'access'> | undefined
  /** Undefined when the request may go on. */
  refuse(request: FastifyRequest): Refusal | undefined
}

const digest = (name: string, password: string) => createHash('sha256').update(`${name}\0${password}`).digest()

const loopbackHost = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/i

function credentials(header: string | undefined): { name: string; password: string } | undefined {
  const encoded = /^basic +(\S+)$/i.exec(header ?? '')?.[1]
  if (!encoded) return undefined
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return colon < 0 ? undefined : { name: text.slice(0, colon), password: text.slice(colon + 1) }
}

// Browsers send Basic credentials along with any site's request, so a change must prove that the board itself made it.
function sameOrigin(request: FastifyRequest): boolean {
  const site = request.headers['sec-fetch-site']
  if (site !== undefined) return site === 'same-origin'
  const { origin } = request.headers
  return origin !== undefined && URL.canParse(origin) && new URL(origin).host === request.host
}

/** Decides who may look and who may act. With no users, `open` lets in whoever reaches a loopback address. */
export function createBoardAccess(options: { users: readonly BoardUser[]; open: boolean }): BoardAccess {
  const known = options.users.map(({ name, password, access }) => ({ name, access, digest: digest(name, password) }))
  const anyone = { name: 'local', access: 'rw' } as const

  function identify(headers: IncomingHttpHeaders) {
    if (known.length === 0) return options.open ? anyone : undefined
    const given = credentials(headers.authorization)
    const presented = digest(given?.name ?? '', given?.password ?? '')
    let match: (typeof known)[number] | undefined
    // Every user is compared, so that the time taken tells nothing.
    for (const user of known) if (timingSafeEqual(user.digest, presented)) match = user
    return given && match
  }

  return {
    identify,
    refuse(request) {
      if (known.length === 0 && !options.open) {
        return {
          status: 403,
          title: 'The board is closed',
          detail: 'Set BOARD_USERS="name:password:rw" to open it to more than this machine.',
        }
      }
      // A stranger's page can name its own host and have it resolve to 127.0.0.1; it can't change the Host header.
      if (known.length === 0 && !loopbackHost.test(request.headers.host ?? '')) {
        return {
          status: 403,
          title: 'The board is closed',
          detail: 'Open it as localhost, or set BOARD_USERS="name:password:rw".',
        }
      }
      const user = identify(request.headers)
      if (!user)
        return { status: 401, title: 'Who are you?', detail: 'The name or password is not one of BOARD_USERS.' }
      if (request.method === 'GET' || request.method === 'HEAD') return undefined
      if (!sameOrigin(request)) {
        return {
          status: 403,
          title: 'Not from the board',
          detail: 'A change must come from the board itself: Origin or Sec-Fetch-Site says otherwise.',
        }
      }
      if (user.access !== 'rw')
        return { status: 403, title: 'Read-only', detail: `${user.name} may look, but not change anything.` }
      return undefined
    },
  }
}
