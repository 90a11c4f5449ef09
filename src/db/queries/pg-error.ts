import pg from 'pg'

/** The server's own error behind whatever Drizzle wrapped around it. */
export function pgErrorOf(error: unknown): pg.DatabaseError | undefined {
  let cause = error
  for (let depth = 0; depth < 5 && cause instanceof Error; depth++) {
    if (cause instanceof pg.DatabaseError) return cause
    cause = cause.cause
  }
  return undefined
}
