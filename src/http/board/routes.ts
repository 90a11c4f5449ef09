import type { AppControllerRoute, BullBoardRequest, ControllerHandlerReturnType } from '@bull-board/api/typings/app'
import type { Answer, BoardActions } from './actions.ts'

type Handler = (
  actions: BoardActions,
  request: { queue: string; ring: string; status: string; user: string },
) => Promise<Answer>

/** Every change the board offers; all others are refused, so that a new one of the board's must be let in here first. */
const offered: Readonly<Record<string, Handler>> = {
  'put /api/queues/:queueName/:jobId/retry': (actions, { queue, ring, user }) => actions.retry(queue, ring, user),
  'put /api/queues/:queueName/:jobId/promote': (actions, { queue, ring, user }) => actions.promote(queue, ring, user),
  'put /api/queues/:queueName/:jobId/clean': (actions, { queue, ring, user }) => actions.remove(queue, ring, user),
  'put /api/queues/:queueName/retry/:queueStatus': async (actions, { queue, status, user }) =>
    status === 'failed'
      ? actions.retryFailed(queue, user)
      : { refused: 'Work that was done is redone one item at a time.', status: 403 },
  'put /api/queues/:queueName/promote': (actions, { queue, user }) => actions.promoteDelayed(queue, user),
  'put /api/queues/:queueName/pause': (actions, { queue, user }) => actions.setPaused(queue, true, user),
  'put /api/queues/:queueName/resume': (actions, { queue, user }) => actions.setPaused(queue, false, user),
}

const refusal = (status: 403 | 404 | 409, message: string): ControllerHandlerReturnType => ({
  status,
  body: { error: status === 403 ? 'Not offered here' : 'Nothing was changed', message },
})

const notOffered = () =>
  refusal(
    403,
    'The queue only says whose turn it is: what is owed stands in the database, and is retried, promoted or cancelled there.',
  )

/** The board's own routes, with its changes replaced by transitions of work items. */
export function withTransitions(
  routes: readonly AppControllerRoute[],
  actions: BoardActions,
  userOf: (request: BullBoardRequest) => string,
): AppControllerRoute[] {
  return routes.map((route) => {
    if (route.method === 'get') return route
    const handler = offered[`${route.method} ${route.route}`]
    if (!handler) return { ...route, handler: notOffered }
    return {
      ...route,
      async handler(request?: BullBoardRequest) {
        if (!request) return notOffered()
        const { queueName: queue = '', jobId: ring = '', queueStatus: status = '' } = request.params
        if (!request.queues.has(queue)) return refusal(404, `There is no queue "${queue}".`)
        const answer = await handler(actions, { queue, ring, status, user: userOf(request) })
        if ('refused' in answer) return refusal(answer.status ?? 409, answer.refused)
        return { status: 200, body: answer.body } satisfies ControllerHandlerReturnType
      },
    }
  })
}
