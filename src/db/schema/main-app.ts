import { pgTable, serial } from 'drizzle-orm/pg-core'

/** The main app's users: made only where missing, and only as far as foreign keys need. */
export const users = pgTable('users', { id: serial('id').primaryKey() })

/** The main app's partners (customers): made only where missing, and only as far as foreign keys need. */
export const partners = pgTable('partners', { id: serial('id').primaryKey() })
