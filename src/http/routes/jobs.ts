import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { enqueueItem, isToRing, type EnqueuedItem } from '../../db/queries/enqueue.ts'
import { answerOnce } from '../../db/queries/idempotency.ts'
import { findWorkItem, type WorkItem } from '../../db/queries/jobs.ts'
import type { Db, Tx } from '../../db/client.ts'
import { AppError } from '../../errors.ts'
import type { JobDefinition } from '../../queues/define-job.ts'
import { requireScope } from '../auth.ts'
import { noBody, unstorable } from '../body.ts'
import type { AppDeps } from '../deps.ts'
import { cancelItem, retryItem, stateOf, viewJob } from '../items.ts'
import { answer, problems } from '../openapi.ts'
import { enqueuedJobBody, jobBody, jobIdParams, jobParams } from '../schemas.ts'

const hrefOf = (job: string, workId: number) => `/v1/jobs/${job}/${workId}`

function idempotencyKeyOf({ headers: { 'idempotency-key': key } }: FastifyRequest): string | undefined {
  if (key === undefined) return undefined
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) return key
  throw new AppError('invalid', '1 to 255 visible ASCII characters', { field: 'Idempotency-Key' })
}

/** `POST /v1/jobs/{job}`, and the work items it makes. */
export const jobRoutes =
  (deps: AppDeps): FastifyPluginAsyncZod =>
  async (app) => {
    const known = deps.jobs.filter((job) => job.scope !== 'none')
    const payloads = new Map(known.map((job) => [job.name, job.schema.strict().meta({ title: job.name })]))

    function jobToAsk(name: string): JobDefinition {
      const job = known.find((candidate) => candidate.name === name)
      const names = known.map((candidate) => candidate.name).join(', ')
      if (!job)
        throw new AppError('not_found', `There is no job of that name to ask for; there are: ${names || 'none'}`)
      return job
    }

    function readPayload(job: JobDefinition, body: unknown): Record<string, unknown> {
      const payload = payloads.get(job.name)!.parse(body) as Record<string, unknown>
      const found = unstorable(payload)
      if (found) throw new AppError('invalid', found.message, { field: found.field })
      return payload
    }

    async function findItem({ job, jobId }: { job: string; jobId: number }): Promise<WorkItem> {
      const item = await findWorkItem(deps.db, job, jobId)
      if (!item)
        throw new AppError(
          'not_found',
          `There is no item ${jobId} of such a job; items are kept 7 days after their end`,
        )
      return item
    }

    app.post(
      '/jobs/:job',
      {
        config: { scope: 'enqueue' },
        // Each job has its own schema, asked below.
        validatorCompiler: () => (value) => ({ value }),
        schema: {
          tags: ['jobs'],
          operationId: 'enqueueJob',
          summary: 'Ask for work',
          description: `Makes sure that the work is owed. While an item with the same key is unfinished, that one is answered. Safe to repeat under an \`Idempotency-Key\` (1 to 255 visible characters, kept 24 hours): the same request gets the same answer, with \`idempotent-replayed: true\`; another request under that key is a 422.\n\nJobs: ${known.map((job) => `\`${job.name}\`${job.scope === 'ops' ? ' (scope `ops`)' : ''}`).join(', ') || 'none'}.`,
          params: jobParams,
          headers: z.looseObject({ 'idempotency-key': z.string().min(1).max(255).optional() }),
          body: payloads.size > 0 ? z.union([...payloads.values()]) : z.looseObject({}),
          response: {
            202: answer('Committed; `Location` says where to follow it.', enqueuedJobBody),
            ...problems(400, 404, 409, 413, 415, 422),
          },
        },
      },
      async (request, reply) => {
        const job = jobToAsk(request.params.job)
        if (job.scope === 'ops') requireScope(request.principal, 'ops')
        const payload = readPayload(job, request.body)
        const key = idempotencyKeyOf(request)
        const rung = deps.bell.ready()
        let made: EnqueuedItem | undefined
        const enqueue = async (db: Db | Tx) => {
          made = await enqueueItem(db, job.name, payload, { rung, trigger: 'request' })
          const { workId, delayMs, state, nextAt } = made
          return {
            jobId: String(workId),
            state: stateOf({ state, due: delayMs === 0 }),
            href: hrefOf(job.name, workId),
            ...(job.dueAt && { publishAt: nextAt.toISOString() }),
          }
        }
        const requestHash = createHash('sha256')
          .update(JSON.stringify([job.name, payload]))
          .digest('hex')
        const { replayed, response: stored } = key
          ? await answerOnce(deps.db, { principal: request.principal.name, key, requestHash }, async (tx) => ({
              status: 202,
              response: await enqueue(tx),
            }))
          : { replayed: false, response: await enqueue(deps.db) }
        if (rung && made && isToRing(made)) {
          deps.bell.ring([{ ...made, delayMs: Math.max(0, made.delayMs - (job.ringAheadMs ?? 0)) }])
        }
        // jsonb keeps no order of fields.
        const response = {
          jobId: stored.jobId,
          state: stored.state,
          href: stored.href,
          ...(stored.publishAt && { publishAt: stored.publishAt }),
        }
        if (replayed) reply.header('idempotent-replayed', 'true')
        return reply.code(202).header('location', response.href).send(response)
      },
    )

    app.get(
      '/jobs/:job/:jobId',
      {
        schema: {
          tags: ['jobs'],
          operationId: 'getJob',
          summary: 'See what became of it',
          params: jobIdParams,
          response: { 200: answer('As it stands.', jobBody), ...problems(404) },
        },
      },
      async (request) => viewJob(await findItem(request.params)),
    )

    for (const action of ['retry', 'cancel'] as const) {
      app.post(
        `/jobs/:job/:jobId/${action}`,
        {
          config: { scope: 'ops' },
          schema: {
            tags: ['jobs'],
            operationId: `${action}Job`,
            summary: action === 'retry' ? 'Run it again, or now' : 'End it for good',
            description:
              action === 'retry'
                ? 'Owes an ended or held item again from its first attempt; one that waits for a later attempt is owed now.'
                : 'Ends an unfinished item. A run under way may still complete its effect.',
            params: jobIdParams,
            body: noBody,
            response: { 200: answer('As it stands now.', jobBody), ...problems(404, 409, 415, 422) },
          },
        },
        async (request) => {
          const item = await findItem(request.params)
          await (action === 'retry' ? retryItem(deps, item) : cancelItem(deps, item, request.principal.name))
          return viewJob(await findItem(request.params))
        },
      )
    }
  }
