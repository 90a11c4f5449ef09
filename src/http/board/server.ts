import type { FastifyAdapter } from '@bull-board/fastify'
import type { AppControllerRoute, IServerAdapter } from '@bull-board/api/typings/app'

/** Bull Board's server with its routes changed on the way in and its failures heard of. */
export function serverOf(
  adapter: FastifyAdapter,
  change: { routes(routes: AppControllerRoute[]): AppControllerRoute[]; failed(error: Error): void },
): IServerAdapter & { staticPath(): string } {
  const server: IServerAdapter = adapter
  const setStaticPath = server.setStaticPath.bind(server)
  const setApiRoutes = server.setApiRoutes.bind(server)
  const setErrorHandler = server.setErrorHandler.bind(server)
  let staticPath = ''
  return Object.assign(server, {
    staticPath: () => staticPath,
    setStaticPath(route: string, path: string) {
      staticPath = path
      return setStaticPath(route, path)
    },
    setApiRoutes: (routes: AppControllerRoute[]) => setApiRoutes(change.routes(routes)),
    setErrorHandler: (handler: Parameters<typeof setErrorHandler>[0]) =>
      setErrorHandler((error) => {
        const answer = handler(error)
        if ((answer.status ?? 500) >= 500) change.failed(error)
        return answer
      }),
  })
}
