import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { findLane, listLanes } from '../../db/queries/lane-limits.ts'
import { readNameCursor, writeNameCursor } from '../cursor.ts'
import type { AppDeps } from '../deps.ts'
import { answer, problems } from '../openapi.ts'
import { readOrigin, resetOrigin, setOrigin } from '../origins.ts'
import { originBody, originLimitsBody, originPageBody, originParams, originQuery } from '../schemas.ts'

const tags = ['origins']

/** The origins that webhooks go to: how they fare, and how much they are sent at a time. */
export const originRoutes =
  (deps: AppDeps): FastifyPluginAsyncZod =>
  async (app) => {
    app.get(
      '/origins',
      {
        schema: {
          tags,
          operationId: 'listOrigins',
          summary: 'Origins that have limits, or that deliveries wait for',
          querystring: originQuery,
          response: { 200: answer('A page, by name.', originPageBody), ...problems(422) },
        },
      },
      async ({ query: { cursor, limit = 50 } }) => {
        const after = cursor === undefined ? '' : readNameCursor(cursor)
        const found = await listLanes(deps.db, after, limit + 1)
        const items = found.slice(0, limit)
        return { items, nextCursor: found.length > limit ? writeNameCursor(items.at(-1)!.origin) : null }
      },
    )

    app.get(
      '/origins/:origin',
      {
        schema: {
          tags,
          operationId: 'getOrigin',
          summary: 'An origin, its limits and how it fares',
          description: 'Any origin may be asked for: without limits and with nothing waiting, nothing is set for it.',
          params: originParams,
          response: { 200: answer('As it stands.', originBody), ...problems(404, 422) },
        },
      },
      async ({ params }) => findLane(deps.db, await readOrigin(deps.db, params.origin)),
    )

    app.put(
      '/origins/:origin',
      {
        config: { scope: 'ops' },
        schema: {
          tags,
          operationId: 'setOriginLimits',
          summary: 'Limit what an origin is sent at a time',
          description: 'In place of the limits it had. Every process obeys within about a second.',
          params: originParams,
          body: originLimitsBody,
          response: { 200: answer('Set.', originBody), ...problems(400, 404, 413, 415, 422) },
        },
      },
      async ({ params, body: { maxConcurrent = null, requestsPerSecond = null }, principal, log }) => {
        const state = await setOrigin(deps.db, params.origin, { maxConcurrent, requestsPerSecond })
        log.info({ origin: state.origin, limits: state.limits, by: principal.name }, 'limits of an origin set')
        return state
      },
    )

    app.delete(
      '/origins/:origin',
      {
        config: { scope: 'ops' },
        schema: {
          tags,
          operationId: 'resetOrigin',
          summary: "Take an origin's own limits away: what is set for * holds again",
          params: originParams,
          response: { 200: answer('Taken away.', originBody), ...problems(404, 422) },
        },
      },
      async ({ params, principal, log }) => {
        const state = await resetOrigin(deps.db, params.origin)
        log.info({ origin: state.origin, by: principal.name }, 'limits of an origin taken away')
        return state
      },
    )
  }
