import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { createJsonSchemaTransform, createJsonSchemaTransformObject } from 'fastify-type-provider-zod'
import { noBody } from './body.ts'
import { problemType } from './problem.ts'
import { problemBody } from './schemas.ts'

const about = `Takes work from the main app and tells what became of it.

- **202 means committed** in Postgres, nothing less. The work is done later, at least once.
- Ask again whenever no answer came: an event with the same \`id\`, or a job with the same \`Idempotency-Key\`, is accepted
  once. The repeated answer carries \`idempotent-replayed: true\`.
- Errors are \`application/problem+json\` (RFC 9457) and name the field. 503 means: ask again.`

const descriptions: Record<number, string> = {
  400: 'The body is missing, or is not JSON in UTF-8.',
  401: 'No key, or an unknown one.',
  403: 'The key lacks the scope.',
  404: 'There is no such thing.',
  409: 'It contradicts what is there.',
  413: 'The body, or one event in it, is too large.',
  415: 'The body is not `application/json`.',
  422: 'A field is unknown, missing or has a value that is not possible.',
  503: 'The database does not answer: ask again.',
}

/** The problems a route may answer with, for its `response` schemas; 401, 403 and 503 go without saying. */
export function problems(...statuses: number[]) {
  return Object.fromEntries(
    [401, 403, 503, ...statuses].map((status) => [
      status,
      { description: descriptions[status], content: { [problemType]: { schema: problemBody } } },
    ]),
  )
}

/** An answer with words for the reference page. */
export const answer = <Schema>(description: string, schema: Schema) => ({
  description,
  content: { 'application/json': { schema } },
})

// The page's own policy would fetch its files over TLS even where this server speaks none.
const contentPolicy =
  "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; frame-ancestors 'none'"

const schemaTransform = createJsonSchemaTransform({})
const documentTransform = createJsonSchemaTransformObject({})

/** Generates `/openapi.json` from the routes' schemas and serves the reference page at `/docs`, all from this server. */
export async function describeApi(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    hideUntagged: true,
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'website-worker',
        version,
        description: about,
        license: { name: 'MIT', identifier: 'MIT' } as never,
      },
      servers: [{ url: '/', description: 'This server' }],
      components: {
        securitySchemes: {
          key: { type: 'http', scheme: 'bearer', description: 'A secret of `API_KEYS`. Scopes: `enqueue` and `ops`.' },
          erp: {
            type: 'apiKey',
            in: 'header',
            name: 'webhook-signature',
            description:
              'With `webhook-id` and `webhook-timestamp`, as Standard Webhooks: `v1,` and the base64 HMAC-SHA256 over `id.timestamp.body`, under a secret of `ERP_WEBHOOK_SECRET`.',
          },
        },
      },
      security: [{ key: [] }],
      tags: [
        { name: 'events', description: 'Tell webhooks what happened.' },
        { name: 'jobs', description: 'Ask for work and see what became of it.' },
        { name: 'webhooks', description: 'How receivers fare.' },
        { name: 'deliveries', description: 'The delivery ledger.' },
        { name: 'origins', description: 'What webhooks are sent to, and how much of it at a time.' },
        { name: 'erp', description: 'What an ERP says, and how its streams are read.' },
        { name: 'sites', description: 'Hold and release the work of one site.' },
        { name: 'health', description: 'For load balancers and monitoring; no key needed.' },
      ],
    },
    transform: (document) => {
      const { body, ...rest } = document.schema ?? {}
      return schemaTransform({ ...document, schema: body === noBody ? rest : document.schema } as never)
    },
    transformObject: (document) => tidy(documentTransform(document) as Document) as never,
  })
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: contentPolicy,
    // Else the page shows a badge of a validator that is asked over the internet.
    uiConfig: { validatorUrl: null, deepLinking: true, tryItOutEnabled: false } as never,
    theme: { title: 'website-worker API' },
    logLevel: 'warn',
  })
  let document: string | undefined
  app.get('/openapi.json', { logLevel: 'warn' }, async (_, reply) =>
    reply.type('application/json').send((document ??= JSON.stringify(app.swagger()))),
  )
}

interface Document {
  paths?: Record<string, unknown>
  components: { schemas?: Record<string, unknown> }
}

/**
 * Drops component schemas that nothing refers to (each is made twice, once as it comes in and once as it goes out), and
 * what a number in a path or an instant inherits from the string it is read from.
 */
function tidy(document: Document): Document {
  const { paths = {}, components } = JSON.parse(
    JSON.stringify(document).replaceAll(/("|schemas\/)(\w+)Input"/g, '$1$2"'),
    (_, value) => {
      if (value?.type === 'integer' || value?.format === 'date-time') delete value.pattern
      if (value?.minimum === Number.MIN_SAFE_INTEGER) delete value.minimum
      if (value?.maximum === Number.MAX_SAFE_INTEGER) delete value.maximum
      return value
    },
  ) as Document
  const all = components.schemas ?? {}
  const used = new Set<string>()
  const collect = (value: unknown) => {
    for (const [, name = ''] of JSON.stringify(value).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
      if (used.has(name)) continue
      used.add(name)
      collect(all[name] ?? null)
    }
  }
  collect(paths)
  const schemas = Object.fromEntries(Object.entries(all).filter(([name]) => used.has(name)))
  return { ...document, paths, components: { ...components, schemas } }
}
