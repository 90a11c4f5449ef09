import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { listPausedQueues } from '../../src/db/queries/queue-pauses.ts'
import { openBoard, type BackendKind, type Board } from './board-fixture.ts'

const minutes = (count: number) => new Date(Date.now() + count * 60_000)
const queuePath = '/api/queues/deliver-webhook'

describe.each<BackendKind>(['postgres', 'redis'])('the board on %s', (kind) => {
  let board: Board
  beforeAll(async () => {
    board = await openBoard(kind)
  })
  afterEach(() => board.reset())
  afterAll(() => board.close())

  it('retries a failed ring as a new generation of its work item', async () => {
    const item = await board.addItem({
      state: 'failed',
      attempts: 10,
      reason: 'out of attempts',
      finishedAt: new Date(),
    })
    const id = await board.ringAndEnd(item, 'failed')
    const response = await board.call('PUT', `${queuePath}/${id}/retry`)
    expect(response.statusCode).toBe(200)
    expect(await board.item(item.id)).toMatchObject({
      state: 'owed',
      generation: 2,
      attempts: 0,
      reason: null,
      finishedAt: null,
    })
    expect(await board.queue.getJobState(`${item.id}-2`)).toBe('waiting')
    expect(await board.queue.getJob(id)).toBeUndefined()
    expect((await board.call('GET', `${queuePath}/${id}`)).json().job.id).toBe(`${item.id}-2`)
  })

  it('does work again whose ring is completed, and now what is owed later', async () => {
    const done = await board.addItem({ state: 'done', finishedAt: new Date() })
    const later = await board.addItem({ generation: 1 })
    const doneId = await board.ringAndEnd(done, 'completed')
    const laterId = await board.ringAndEnd(later, 'completed')
    await board.db.execute(
      `UPDATE website_worker.work SET generation = 2, next_at = now() + interval '5 hours' WHERE id = ${later.id}`,
    )
    expect((await board.call('PUT', `${queuePath}/${doneId}/retry`)).statusCode).toBe(200)
    expect((await board.call('PUT', `${queuePath}/${laterId}/retry`)).statusCode).toBe(200)
    expect(await board.item(done.id)).toMatchObject({ state: 'owed', generation: 2 })
    expect((await board.item(later.id)).nextAt.getTime()).toBeLessThanOrEqual(Date.now())
    expect((await board.queue.getJobs(['waiting'])).map((ring) => ring.id).toSorted()).toEqual(
      [`${done.id}-2`, `${later.id}-3`].toSorted(),
    )
  })

  it('refuses a retry that would do the same thing twice', async () => {
    const twin = await board.addItem({ state: 'failed', key: '7', finishedAt: new Date() })
    await board.addItem({ key: '7' })
    const delivered = await board.addItem({ state: 'done', generation: 2, finishedAt: new Date() })
    const due = await board.addItem({ generation: 2, attempts: 1 })
    const dueId = await board.ringAndEnd({ ...due, generation: 1 }, 'completed')
    const twinId = await board.ringAndEnd(twin, 'failed')
    const staleId = await board.ringAndEnd({ ...delivered, generation: 1 }, 'failed')
    for (const id of [twinId, staleId, dueId])
      expect((await board.call('PUT', `${queuePath}/${id}/retry`)).statusCode).toBe(409)
    expect((await board.item(twin.id)).state).toBe('failed')
    expect((await board.item(delivered.id)).state).toBe('done')
    expect(await board.item(due.id)).toEqual(due)
  })

  it('promotes a delayed ring: owed now, under a new ring', async () => {
    const item = await board.addItem({ nextAt: minutes(8) })
    const id = await board.ring(item)
    expect(await board.queue.getJobState(id)).toBe('delayed')
    expect((await board.call('PUT', `${queuePath}/${id}/promote`)).statusCode).toBe(200)
    const promoted = await board.item(item.id)
    expect(promoted).toMatchObject({ state: 'owed', generation: 2 })
    expect(promoted.nextAt.getTime()).toBeLessThanOrEqual(Date.now() + 1_000)
    expect(await board.queue.getJobState(`${item.id}-2`)).toBe('waiting')
    expect(await board.queue.getJob(id)).toBeUndefined()
  })

  it('cancels the work item of a removed ring that still waits', async () => {
    const [now, later] = [await board.addItem(), await board.addItem({ nextAt: minutes(5) })]
    for (const item of [now, later]) {
      const id = await board.ring(item)
      expect((await board.call('PUT', `${queuePath}/${id}/clean`)).statusCode).toBe(200)
      expect(await board.item(item.id)).toMatchObject({ state: 'cancelled', reason: 'removed in the board by olga' })
      expect(await board.queue.getJob(id)).toBeUndefined()
    }
  })

  it('removes a finished or replaced ring from its list alone', async () => {
    const failed = await board.addItem({ state: 'failed', finishedAt: new Date() })
    const replaced = await board.addItem({ generation: 2 })
    const ids = [await board.ringAndEnd(failed, 'failed'), await board.ring({ ...replaced, generation: 1 })]
    for (const id of ids) expect((await board.call('PUT', `${queuePath}/${id}/clean`)).statusCode).toBe(200)
    expect(await board.queue.getJobs()).toEqual([])
    expect((await board.item(failed.id)).state).toBe('failed')
    expect((await board.item(replaced.id)).state).toBe('owed')
  })

  it('leaves a running ring and its work item alone', async () => {
    const item = await board.addItem()
    const id = await board.ring(item)
    let end = () => {}
    await board.work(() => new Promise<void>((resolve) => (end = resolve)))
    await vi.waitFor(async () => expect(await board.queue.getJobState(id)).toBe('active'))
    for (const action of ['clean', 'retry', 'promote']) {
      expect((await board.call('PUT', `${queuePath}/${id}/${action}`)).statusCode).toBe(409)
    }
    expect(await board.item(item.id)).toMatchObject({ state: 'owed', generation: 1 })
    const [queue] = (await board.call('GET', '/api/queues')).json().queues
    // Postgres doesn't know who works.
    expect(queue).toMatchObject({ counts: { active: 1 }, hasWorkers: kind === 'redis' ? true : null })
    end()
    await vi.waitFor(async () => expect(await board.queue.getJobState(id)).toBe('completed'))
  })

  it('retries all that is failed still, and clears what is not from the list', async () => {
    const failed = [await board.addItem({ state: 'failed' }), await board.addItem({ state: 'failed' })]
    const delivered = await board.addItem({ state: 'done' })
    const cancelled = await board.addItem({ state: 'cancelled' })
    for (const item of [...failed, delivered, cancelled]) await board.ringAndEnd(item, 'failed')
    const response = await board.call('PUT', `${queuePath}/retry/failed`)
    expect(response.json()).toEqual({ retried: 2, skipped: 0 })
    expect(await board.queue.getFailedCount()).toBe(0)
    expect((await board.queue.getJobs(['waiting'])).map((ring) => ring.id).toSorted()).toEqual(
      failed.map(({ id }) => `${id}-2`).toSorted(),
    )
    expect((await board.item(delivered.id)).state).toBe('done')
    expect((await board.item(cancelled.id)).state).toBe('cancelled')
  })

  it('promotes all that is delayed', async () => {
    const items = [await board.addItem({ nextAt: minutes(3) }), await board.addItem({ nextAt: minutes(9) })]
    for (const item of items) await board.ring(item)
    expect((await board.call('PUT', `${queuePath}/promote`)).statusCode).toBe(200)
    expect(await board.queue.getJobCounts('waiting', 'delayed')).toEqual({ waiting: 2, delayed: 0 })
    for (const item of items) expect(await board.item(item.id)).toMatchObject({ state: 'owed', generation: 2 })
  })

  it('pauses and resumes a queue, and writes it down', async () => {
    expect((await board.call('PUT', `${queuePath}/pause`)).statusCode).toBe(200)
    expect((await board.call('PUT', `${queuePath}/pause`)).statusCode).toBe(200)
    expect(await board.queue.isPaused()).toBe(true)
    expect(await listPausedQueues(board.db)).toEqual(['deliver-webhook'])
    expect((await board.call('PUT', `${queuePath}/resume`)).statusCode).toBe(200)
    expect(await board.queue.isPaused()).toBe(false)
    expect(await listPausedQueues(board.db)).toEqual([])
  })

  it('refuses what would change the queue behind the work items', async () => {
    const waiting = await board.addItem()
    const delayed = await board.addItem({ nextAt: minutes(5) })
    const done = await board.addItem({ state: 'done' })
    const doneId = await board.ringAndEnd(done, 'completed')
    const ids = [await board.ring(waiting), await board.ring(delayed), doneId]
    const paths =
      'clean/completed clean/wait clean/delayed empty obliterate retry/completed concurrency rate-limit rate-limit/release'
    const refused = [...paths.split(' '), `${ids[0]}/remove-unprocessed-children`, 'job-schedulers/x/remove'].map(
      (path) => ['PUT', `${queuePath}/${path}`] as const,
    )
    const bodied = [`${ids[0]}/update-data`, `${ids[1]}/delay`, `${ids[0]}/priority`, 'job-schedulers/x'].map(
      (path) => ['PATCH', `${queuePath}/${path}`] as const,
    )
    const all = [
      ['PUT', '/api/queues/pause'],
      ['PUT', '/api/queues/resume'],
      ['POST', `${queuePath}/add`],
    ] as const
    for (const [method, path] of [...refused, ...bodied, ...all]) {
      const response = await board.call(method, path)
      expect([path, response.statusCode]).toEqual([path, 403])
      expect(response.json().error).toBeTruthy()
    }
    expect((await board.queue.getJobs()).map((ring) => ring.id).toSorted()).toEqual(ids.toSorted())
    for (const item of [waiting, delayed, done]) expect(await board.item(item.id)).toEqual(item)
    expect(await listPausedQueues(board.db)).toEqual([])
  })

  it('answers 404 for a queue or ring that is not there', async () => {
    for (const path of [
      '/api/queues/none/1-1/retry',
      `${queuePath}/1-1/retry`,
      `${queuePath}/1-1/clean`,
      `${queuePath}/1-1/promote`,
      '/api/queues/none/pause',
    ]) {
      expect([path, (await board.call('PUT', path)).statusCode]).toEqual([path, 404])
    }
    expect(await listPausedQueues(board.db)).toEqual([])
  })

  it('shows a ring by its human name, with the work item it stands for', async () => {
    const item = await board.addItem({ attempts: 2, siteId: 3, lastError: '503', nextAt: minutes(5) })
    const id = await board.ring(item)
    const expected = {
      name: 'order.created → shop.example · attempt 3',
      data: {
        workId: item.id,
        generation: 1,
        workItem: {
          state: 'delayed',
          siteId: 3,
          payload: { deliveryId: 7 },
          attempts: 2,
          lastError: '503',
          api: `/v1/jobs/deliver-webhook/${item.id}`,
        },
      },
    }
    const page = await board.call('GET', `${queuePath}/${id}`)
    expect(page.json()).toMatchObject({ status: 'delayed', job: expected })
    const list = await board.call('GET', '/api/queues?activeQueue=deliver-webhook&status=delayed&page=1&jobsPerPage=10')
    const [queue, other] = list.json().queues
    expect(queue).toMatchObject({
      name: 'deliver-webhook',
      description: expect.stringContaining('webhooks'),
      readOnlyMode: false,
      jobs: [expected],
    })
    expect(other).toMatchObject({ name: 'publish-page', jobs: [] })
    expect((await board.queue.getJob(id))?.data).toEqual({ workId: item.id, generation: 1 })
  })

  it('shows rings that belong to no work item', async () => {
    await board.queue.add('stray', { hello: 'there' } as never)
    const id = await board.ring({ ...(await board.addItem()), id: 999_999 })
    const list = await board.call('GET', '/api/queues?activeQueue=deliver-webhook&status=waiting&page=1&jobsPerPage=10')
    expect(list.statusCode).toBe(200)
    expect(list.json().queues[0].jobs).toHaveLength(2)
    expect((await board.call('PUT', `${queuePath}/${id}/clean`)).statusCode).toBe(200)
    expect((await board.call('PUT', `${queuePath}/1/clean`)).statusCode).toBeLessThan(500)
  })

  it('answers every page of the board', async () => {
    const id = await board.ring(await board.addItem())
    const reads = [
      'metrics',
      'default-job-options',
      'workers',
      'rate-limit',
      'job-data-schema',
      `${id}`,
      `${id}/logs`,
      `${id}/flow`,
    ].map((path) => `${queuePath}/${path}`)
    for (const path of [
      '/',
      '/queue/deliver-webhook',
      `/queue/deliver-webhook/${id}`,
      '/api/redis/stats',
      '/api/job-schedulers',
      '/api/queues',
      ...reads,
    ]) {
      expect([path, (await board.call('GET', path)).statusCode]).toEqual([path, 200])
    }
  })
})
