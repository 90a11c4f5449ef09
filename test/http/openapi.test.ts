import { afterAll, beforeAll, expect, it } from 'vitest'
import { createApi, type ApiFixture } from './api-fixture.ts'

interface Operation {
  operationId: string
  summary: string
  tags: string[]
  security?: unknown[]
  parameters?: { name: string; in: string; required: boolean; schema: { type: string } }[]
  requestBody?: { required: boolean; content: Record<string, { schema: object }> }
  responses: Record<string, { description: string; content?: Record<string, { schema: { $ref?: string } }> }>
}
interface Document {
  openapi: string
  info: Record<string, unknown>
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Record<string, unknown>>; securitySchemes: object }
  tags: { name: string; description: string }[]
}

let api: ApiFixture
let document: Document
let operations: { method: string; path: string; operation: Operation }[]
beforeAll(async () => {
  api = await createApi({
    board: async (app) => {
      app.get('/hidden', async () => 'board')
    },
  })
  document = (await api.app.inject('/openapi.json')).json()
  operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
  )
})
afterAll(() => api.close())

it('is OpenAPI 3.1 and describes every route, and nothing else', () => {
  expect(document.openapi).toBe('3.1.0')
  expect(document.info).toMatchObject({ title: 'website-worker', version: '1.2.3' })
  expect(operations.map(({ method, path }) => `${method.toUpperCase()} ${path}`).toSorted()).toEqual([
    'DELETE /v1/origins/{origin}',
    'GET /healthz',
    'GET /metrics',
    'GET /readyz',
    'GET /v1/deliveries/{id}',
    'GET /v1/jobs/{job}/{jobId}',
    'GET /v1/origins',
    'GET /v1/origins/{origin}',
    'GET /v1/sites/{id}/deliveries',
    'GET /v1/sites/{id}/quarantine',
    'GET /v1/sites/{id}/sync-runs',
    'GET /v1/webhooks/{id}',
    'GET /v1/webhooks/{id}/deliveries',
    'POST /v1/deliveries/{id}/cancel',
    'POST /v1/deliveries/{id}/retry',
    'POST /v1/erp/changes',
    'POST /v1/events',
    'POST /v1/events/batch',
    'POST /v1/jobs/{job}',
    'POST /v1/jobs/{job}/{jobId}/cancel',
    'POST /v1/jobs/{job}/{jobId}/retry',
    'POST /v1/sites/{id}/pause',
    'POST /v1/sites/{id}/resume',
    'POST /v1/webhooks/{id}/cancel-pending',
    'POST /v1/webhooks/{id}/ping',
    'POST /v1/webhooks/{id}/replay',
    'PUT /v1/origins/{origin}',
  ])
})

it('gives every operation words, a tag that is explained, its parameters and its answers', () => {
  const tags = document.tags.map(({ name }) => name)
  expect(new Set(operations.map(({ operation }) => operation.operationId)).size).toBe(operations.length)
  for (const { method, path, operation } of operations) {
    const name = `${method} ${path}`
    expect(operation.summary, name).toBeTruthy()
    expect(tags, name).toEqual(expect.arrayContaining(operation.tags))
    const inPath = [...path.matchAll(/{(\w+)}/g)].map(([, parameter]) => parameter)
    const described = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path')
    expect(described.map((parameter) => parameter.name).toSorted(), name).toEqual(inPath.toSorted())
    for (const parameter of described) expect(parameter.required, name).toBe(true)
    const successes = Object.keys(operation.responses).filter((status) => status.startsWith('2'))
    expect(successes, name).toHaveLength(1)
    for (const { description } of Object.values(operation.responses)) expect(description, name).toMatch(/\w+.*\./)
  }
})

it('describes each refusal as a problem', () => {
  for (const { method, path, operation } of operations.filter((each) => each.path.startsWith('/v1'))) {
    const name = `${method} ${path}`
    const refusals = Object.entries(operation.responses).filter(([status]) => !status.startsWith('2'))
    const isSigned = path === '/v1/erp/changes'
    const expected = [
      '401',
      ...(isSigned ? [] : ['403']),
      '503',
      ...(operation.requestBody ? ['400', '413', '415', '422'] : []),
      ...(path.includes('{') ? ['404'] : []),
    ]
    expect(
      refusals.map(([status]) => status),
      name,
    ).toEqual(expect.arrayContaining(expected.filter((status) => status !== '413' || !path.startsWith('/v1/sites'))))
    for (const [status, { content }] of refusals) {
      expect(content?.['application/problem+json']?.schema, `${name} ${status}`).toEqual({
        $ref: '#/components/schemas/Problem',
      })
    }
    expect(operation.security, name).toEqual(isSigned ? [{ erp: [] }] : undefined)
  }
  expect(document).toMatchObject({
    security: [{ key: [] }],
    components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
  })
  for (const path of ['/healthz', '/readyz', '/metrics']) expect(document.paths[path]!.get!.security).toEqual([])
})

it('refers to schemas that are there, and has none that nothing refers to', () => {
  const referred = new Set(
    [...JSON.stringify(document).matchAll(/#\/components\/schemas\/(\w+)/g)].map(([, name]) => name),
  )
  expect([...referred].toSorted()).toEqual(Object.keys(document.components.schemas).toSorted())
  expect(JSON.stringify(document)).not.toMatch(/PLACEHOLDER|\$defs|9007199254740991/)
})

it('shows an example of what to send, which is accepted as it stands', async () => {
  const { examples } = document.components.schemas.NewEvent as { examples: { siteId: number }[] }
  await api.db.execute("INSERT INTO public.website_sites (id, name, domain) VALUES (1, 'Shop', 'one.example')")
  const response = await api.send('POST', '/v1/events', examples[0])
  expect(response.statusCode, response.body).toBe(202)
})

it('names the payload of every job that may be asked for', () => {
  const body = JSON.stringify(document.paths['/v1/jobs/{job}']!.post!.requestBody)
  expect(body).toContain('"title":"sync-products"')
  expect(body).toContain('"skus"')
  expect(body).not.toContain('deliveryId')
})

it('is readable at /docs, with nothing from another server', async () => {
  const page = await api.app.inject('/docs')
  expect(page.statusCode).toBe(200)
  expect(page.headers['content-security-policy']).toMatch(/^default-src 'self';/)
  expect(page.headers['content-security-policy']).not.toContain('upgrade-insecure-requests')
  expect(page.body).not.toMatch(/(src|href)="(https?:)?\/\//)
  const files = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, file]) => file!)
  expect(files.length).toBeGreaterThan(4)
  for (const file of files) expect((await api.app.inject(file)).statusCode, file).toBe(200)
  expect((await api.app.inject('/docs/json')).json()).toEqual(document)
  expect((await api.app.inject('/admin/queues/hidden')).body).toBe('board')
})
