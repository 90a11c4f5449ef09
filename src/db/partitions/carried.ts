import { sql } from 'drizzle-orm'
import type { Db, Tx } from '../client.ts'
import { quoteLiteral } from '../triggers.ts'
import { changeTrigger } from './names.ts'

/** What moves from one form of a table to the other in the moment they change places. */
export interface Carried {
  foreignKeys: { name: string; definition: string }[]
  /** Tables that the foreign keys lead to. */
  referenced: string[]
  /** Takes triggers and policies off the form that goes. */
  remove: string[]
  /** Makes triggers, policies and grants on the form that comes, once it bears the table's name. */
  make: string[]
}

const enabledWords: Record<string, string | undefined> = {
  D: 'DISABLE TRIGGER',
  R: 'ENABLE REPLICA TRIGGER',
  A: 'ENABLE ALWAYS TRIGGER',
}

/** Reads what a table in `public` carries. */
export async function readCarried(tx: Tx, relation: string): Promise<Carried> {
  const [keys, triggers, policies, grants] = [
    await readForeignKeys(tx, relation),
    await readTriggers(tx, relation),
    await readPolicies(tx, relation),
    await readGrants(tx, relation),
  ]
  return {
    foreignKeys: keys.map(({ name, definition }) => ({ name, definition })),
    referenced: [...new Set(keys.map((key) => key.referenced))].toSorted(),
    remove: [...triggers.remove, ...policies.remove],
    make: [...triggers.make, ...policies.make, ...grants],
  }
}

/** A table's own foreign keys. */
export async function readForeignKeys(db: Db | Tx, relation: string) {
  const { rows } = await db.execute<{ name: string; definition: string; referenced: string }>(sql`
    SELECT quote_ident(conname) AS name, pg_get_constraintdef(oid) AS definition,
      (SELECT format('%I.%I', n.nspname, r.relname) FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
       WHERE r.oid = confrelid) AS referenced
    FROM pg_constraint WHERE conrelid = ${relation}::regclass AND contype = 'f' AND conparentid = 0 ORDER BY conname`)
  return rows
}

async function readTriggers(tx: Tx, relation: string) {
  const { rows } = await tx.execute<{ name: string; definition: string; enabled: string; comment: string | null }>(sql`
    SELECT quote_ident(tgname) AS name, pg_get_triggerdef(oid) AS definition, tgenabled AS enabled,
      obj_description(oid, 'pg_trigger') AS comment
    FROM pg_trigger WHERE tgrelid = ${relation}::regclass AND NOT tgisinternal AND tgname !~ ${`^${changeTrigger}`}
    ORDER BY tgname`)
  return {
    remove: rows.map(({ name }) => `DROP TRIGGER ${name} ON ${relation}`),
    make: rows.flatMap(({ name, definition, enabled, comment }) => [
      definition,
      ...(enabledWords[enabled] ? [`ALTER TABLE ${relation} ${enabledWords[enabled]} ${name}`] : []),
      ...(comment === null ? [] : [`COMMENT ON TRIGGER ${name} ON ${relation} IS${quoteLiteral(comment)}`]),
    ]),
  }
}

async function readPolicies(tx: Tx, relation: string) {
  const { rows } = await tx.execute<{ name: string; definition: string }>(sql`
    SELECT quote_ident(policyname) AS name, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', policyname, ${relation}::text,
        permissive, cmd, (SELECT string_agg(CASE r WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(r) END, ', ') FROM unnest(roles) r))
      || coalesce(' USING (' || qual || ')', '') || coalesce(' WITH CHECK (' || with_check || ')', '') AS definition
    FROM pg_policies WHERE format('%I.%I', schemaname, tablename) = ${relation} ORDER BY policyname`)
  const { rows: security } = await tx.execute<{ statement: string }>(sql`
    SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY', ${relation}::text, CASE WHEN relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END)
      AS statement FROM pg_class WHERE oid = ${relation}::regclass
    UNION ALL
    SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY', ${relation}::text,
      CASE WHEN relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END) FROM pg_class WHERE oid = ${relation}::regclass`)
  return {
    remove: rows.map(({ name }) => `DROP POLICY ${name} ON ${relation}`),
    make: [...rows.map((row) => row.definition), ...security.map((row) => row.statement)],
  }
}

async function readGrants(tx: Tx, relation: string): Promise<string[]> {
  const { rows } = await tx.execute<{ statement: string }>(sql`
    SELECT format('GRANT %s ON %s TO %s%s', a.privilege_type || coalesce(' (' || a.name || ')', ''), ${relation}::text,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
        CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS statement
    FROM (
      SELECT NULL AS name, c.relowner, x.* FROM pg_class c CROSS JOIN aclexplode(c.relacl) x WHERE c.oid = ${relation}::regclass
      UNION ALL
      SELECT quote_ident(t.attname), c.relowner, x.* FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid
      CROSS JOIN aclexplode(t.attacl) x WHERE c.oid = ${relation}::regclass) AS a
    WHERE a.grantee <> a.relowner ORDER BY 1`)
  return rows.map((row) => row.statement)
}

/** What takes back every grant on a relation, those that came by default included. */
export async function readRevokes(tx: Tx, relation: string): Promise<string[]> {
  const { rows } = await tx.execute<{ statement: string }>(sql`
    SELECT DISTINCT format('REVOKE ALL ON %s FROM %s', ${relation}::text,
      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END) AS statement
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) a WHERE c.oid = ${relation}::regclass AND a.grantee <> c.relowner`)
  return rows.map((row) => row.statement)
}
