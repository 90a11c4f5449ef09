import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { listQuarantine, listRuns } from '../../db/queries/sync/list.ts'
import type { RunOptions } from '../../db/queries/sync/runs.ts'
import { siteExists } from '../../db/queries/webhooks.ts'
import type { SyncType } from '../../erp.ts'
import { AppError } from '../../errors.ts'
import { readCursor, writeCursor } from '../cursor.ts'
import type { AppDeps } from '../deps.ts'
import { answer, problems } from '../openapi.ts'
import { idParams, quarantinePageBody, quarantineQuery, syncRunPageBody, syncRunQuery } from '../schemas.ts'

/** Ids that are no INTEGER. */
const largestId = Number.MAX_SAFE_INTEGER

/** Where to go on in a list of which one more than `limit` was asked for. */
function pageOf<Row extends { id: number }>(found: readonly Row[], limit: number) {
  const items = found.slice(0, limit)
  return { items, nextCursor: found.length > limit ? writeCursor(items.at(-1)!.id) : null }
}

function viewRun({ options, workId, counts, ...run }: Awaited<ReturnType<typeof listRuns>>[number]) {
  const { audit = false, force = false } = options as RunOptions
  return { ...run, audit, force, counts: counts as Record<string, unknown>, jobId: String(workId) }
}

/** How the streams of a site's ERP were read, and what of them couldn't be taken. */
export const syncRoutes =
  (deps: AppDeps): FastifyPluginAsyncZod =>
  async (app) => {
    async function rangeOf(
      siteId: number,
      { cursor, limit = 50 }: { cursor?: string | undefined; limit?: number | undefined },
    ) {
      const before = cursor === undefined ? undefined : readCursor(cursor, largestId)
      if (!(await siteExists(deps.db, siteId))) throw new AppError('not_found', `There is no site ${siteId}`)
      return { siteId, before, limit }
    }

    app.get(
      '/sites/:id/sync-runs',
      {
        schema: {
          tags: ['erp'],
          operationId: 'listSyncRuns',
          summary: "Runs over the streams of a site's ERP, newest first",
          params: idParams('site'),
          querystring: syncRunQuery,
          response: { 200: answer('A page.', syncRunPageBody), ...problems(404, 422) },
        },
      },
      async ({ params: { id }, query }) => {
        const range = await rangeOf(id, query)
        const found = await listRuns(deps.db, {
          ...range,
          type: query.type,
          state: query.status,
          limit: range.limit + 1,
        })
        return pageOf(found.map(viewRun), range.limit)
      },
    )

    app.get(
      '/sites/:id/quarantine',
      {
        schema: {
          tags: ['erp'],
          operationId: 'listQuarantine',
          summary: "Records of a site's ERP that can not be taken, newest first",
          description: 'Each stays until the ERP sends it right, or no longer has it.',
          params: idParams('site'),
          querystring: quarantineQuery,
          response: { 200: answer('A page.', quarantinePageBody), ...problems(404, 422) },
        },
      },
      async ({ params: { id }, query }) => {
        const range = await rangeOf(id, query)
        const found = await listQuarantine(deps.db, { ...range, limit: range.limit + 1 })
        return pageOf(
          found.map((record) => ({ ...record, type: record.type as SyncType })),
          range.limit,
        )
      },
    )
  }
