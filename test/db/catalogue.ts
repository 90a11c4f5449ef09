import type pg from 'pg'

const queries = {
  column: `
    SELECT c.relname || '.' || a.attname || ': ' || format_type(a.atttypid, a.atttypmod)
      || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
      || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') AS line, c.relname AS table
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'v')
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = $1::regnamespace AND a.attnum > 0 AND NOT a.attisdropped`,
  constraint: `
    SELECT c.relname || ' ' || k.conname || ': ' || pg_get_constraintdef(k.oid) AS line, c.relname AS table
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE c.relnamespace = $1::regnamespace`,
  index: `
    SELECT pg_get_indexdef(x.indexrelid) || CASE WHEN x.indisvalid THEN '' ELSE ' INVALID' END AS line,
      c.relname AS table
    FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid WHERE c.relnamespace = $1::regnamespace`,
  trigger: `
    SELECT pg_get_triggerdef(t.oid) AS line, c.relname AS table
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = $1::regnamespace AND NOT t.tgisinternal`,
  function: `
    SELECT pg_get_functiondef(p.oid) AS line, NULL AS table FROM pg_proc p WHERE p.pronamespace = $1::regnamespace`,
  owner: `
    SELECT c.relname || ' of ' || c.relowner::regrole || ' ' || coalesce(c.relacl::text, '') AS line, c.relname AS table
    FROM pg_class c WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')`,
  comment: `
    SELECT pg_describe_object(classoid, objoid, objsubid) || ': ' || description AS line, NULL AS table
    FROM pg_description WHERE objoid >= 16384 AND $1 = 'public'`,
}

export type CatalogueKind = keyof typeof queries

/** A schema as the live catalogue describes it: one line per column, constraint, index, trigger, function…. */
export async function readCatalogue(
  pool: pg.Pool,
  options: { schema?: string; kinds?: CatalogueKind[]; tables?: readonly string[] } = {},
): Promise<string[]> {
  const schema = options.schema ?? 'public'
  const known = await pool.query(`SELECT FROM pg_namespace WHERE nspname = $1`, [schema])
  if (known.rowCount === 0) return []
  const lines: string[] = []
  for (const kind of options.kinds ?? (Object.keys(queries) as CatalogueKind[])) {
    const { rows } = await pool.query<{ line: string; table: string | null }>(queries[kind], [schema])
    const wanted = rows.filter((row) => row.table === null || (options.tables?.includes(row.table) ?? true))
    lines.push(...wanted.map((row) => `${kind} ${row.line}`))
  }
  return [...new Set(lines)].toSorted()
}
