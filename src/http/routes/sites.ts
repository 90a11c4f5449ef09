import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { pauseDomain, resumeDomain } from '../../db/domains.ts'
import { siteExists } from '../../db/queries/webhooks.ts'
import { AppError } from '../../errors.ts'
import { holdReasons } from '../../queues/hold-reasons.ts'
import { holdSite, releaseSite } from '../../work/transitions.ts'
import type { AppDeps } from '../deps.ts'
import { answer, problems } from '../openapi.ts'
import { idParams, sitePausedBody, siteResumedBody, siteSwitchBody } from '../schemas.ts'

/** Holding and releasing one site's work of a domain. */
export const siteRoutes =
  (deps: AppDeps): FastifyPluginAsyncZod =>
  async (app) => {
    async function demandSite(id: number): Promise<void> {
      if (!(await siteExists(deps.db, id))) throw new AppError('not_found', `There is no site ${id}`)
    }

    const jobsOf = (domain: string) => deps.jobs.filter((job) => job.domain === domain).map((job) => job.name)

    app.post(
      '/sites/:id/pause',
      {
        config: { scope: 'ops' },
        schema: {
          tags: ['sites'],
          operationId: 'pauseSite',
          summary: "Hold a site's work of a domain",
          description: 'What is owed is held, what comes in meanwhile too; what runs ends first. Asking twice is fine.',
          params: idParams('site'),
          body: siteSwitchBody,
          response: { 200: answer('Paused.', sitePausedBody), ...problems(400, 404, 415, 422) },
        },
      },
      async ({ params: { id: siteId }, body: { domain } }) => {
        await demandSite(siteId)
        const { paused } = await pauseDomain(deps.db, siteId, domain)
        return { siteId, domain, paused, held: await holdSite(deps.db, jobsOf(domain), siteId, holdReasons.paused) }
      },
    )

    app.post(
      '/sites/:id/resume',
      {
        config: { scope: 'ops' },
        schema: {
          tags: ['sites'],
          operationId: 'resumeSite',
          summary: "Let a site's work of a domain go on",
          description: 'What was held is owed again, unless the domain is switched off for every site.',
          params: idParams('site'),
          body: siteSwitchBody,
          response: { 200: answer('Resumed.', siteResumedBody), ...problems(400, 404, 415, 422) },
        },
      },
      async ({ params: { id: siteId }, body: { domain } }) => {
        await demandSite(siteId)
        const { paused } = await resumeDomain(deps.db, siteId, domain)
        const released = await releaseSite(deps.db, jobsOf(domain), siteId)
        return { siteId, domain, paused, released }
      },
    )
  }
