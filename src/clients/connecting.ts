import { isIP, type Socket } from 'node:net'
import type { buildConnector } from 'undici'

/** What a connection that is being made is waiting for. */
export type ConnectPhase = 'lookup' | 'connect' | 'tls'

/** Dials; unlike undici's own type it tells of the socket it makes. */
export type Connect = (options: buildConnector.Options, callback: buildConnector.Callback) => Socket | undefined

/** Connections that are being made, and the requests that wait for them. */
export interface Connecting {
  connect: Connect
  /** Says that a request waits for a connection to an origin; call the returned function once it doesn't. */
  waitFor(origin: string): () => void
  /** Of the one that an origin has waited for longest; undefined when none is being made. */
  phaseOf(origin: string): ConnectPhase | undefined
}

/**
 * Knows how far the connections that `connect` makes have got, so that a timeout can say what it waited for, and makes none
 * that nobody waits for: undici dials anew after every request that was given up.
 */
export function watchConnecting(connect: Connect): Connecting {
  const underWay = new Map<string, Set<{ phase: ConnectPhase }>>()
  const waiting = new Map<string, number>()

  return {
    waitFor(origin) {
      waiting.set(origin, (waiting.get(origin) ?? 0) + 1)
      let isOver = false
      return () => {
        if (isOver) return
        isOver = true
        const left = (waiting.get(origin) ?? 0) - 1
        if (left > 0) waiting.set(origin, left)
        else waiting.delete(origin)
      }
    },
    connect(options, callback) {
      const { hostname, host, protocol } = options
      const origin = `${protocol}//${host ?? hostname}`
      if (!waiting.has(origin)) {
        queueMicrotask(() => callback(new Error('nobody waits for this connection'), null))
        return undefined
      }
      const attempt = { phase: isIP(hostname.replace(/^\[|\]$/g, '')) === 0 ? 'lookup' : 'connect' } as {
        phase: ConnectPhase
      }
      const attempts = underWay.get(origin) ?? new Set()
      underWay.set(origin, attempts.add(attempt))

      const socket = connect(options, (...result) => {
        attempts.delete(attempt)
        if (attempts.size === 0 && underWay.get(origin) === attempts) underWay.delete(origin)
        callback(...result)
      })
      socket?.once('lookup', () => {
        if (attempt.phase === 'lookup') attempt.phase = 'connect'
      })
      if (protocol === 'https:') socket?.once('connect', () => (attempt.phase = 'tls'))
      return socket
    },
    phaseOf(origin) {
      for (const { phase } of underWay.get(origin) ?? []) return phase
      return undefined
    },
  }
}
