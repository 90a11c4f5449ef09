/** A Drizzle database or transaction, of any Postgres driver. */
export interface DrizzleHandle {
  // oxlint-disable-next-line typescript/no-explicit-any -- Drizzle's own parameter type differs between its releases.
  execute(query: any): PromiseLike<unknown>
}

/** A node-postgres client or pool. */
export interface PgHandle {
  query(text: string, values: unknown[]): PromiseLike<{ rows: unknown[] }>
}

/** What is sent to the server as text or number and cast there, whatever the driver. */
export type Argument = readonly [value: unknown, type: string]

/** Runs one SELECT of one `value`; `textOf` writes it around its arguments, each of which may be used more than once. */
export async function selectValue(
  db: DrizzleHandle | PgHandle,
  args: readonly Argument[],
  textOf: (...args: string[]) => string,
): Promise<unknown> {
  const values = args.map(([value]) => value)
  const text = (placeholder: (index: number) => string) =>
    textOf(...args.map(([, type], index) => `${placeholder(index)}::${type}`))
  if (!('execute' in db)) {
    const numbered = text((index) => `$${index + 1}`)
    return valueOf(await db.query(numbered, values))
  }
  // What Drizzle asks of a query is getSQL().toQuery(); built here, it is free of which release the caller has.
  const query = {
    toQuery: (config: { escapeParam(index: number, value: unknown): string }) => ({
      sql: text((index) => config.escapeParam(index, values[index])),
      params: values,
    }),
  }
  return valueOf(await db.execute({ getSQL: () => query }))
}

/** Drivers answer with `{rows}` or with the rows alone. */
function valueOf(result: unknown): unknown {
  const rows = (Array.isArray(result) ? result : (result as { rows: unknown[] }).rows) as { value: unknown }[]
  return rows[0]?.value
}
