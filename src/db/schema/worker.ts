import { sql } from 'drizzle-orm'
import {
  bigint,
  boolean,
  doublePrecision,
  index,
  integer,
  jsonb,
  primaryKey,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core'
import { instant, workerSchema } from './worker-schema.ts'

/** Work items: one row per owed run of a job. Changed only by `src/work/transitions.ts`. */
export const work = workerSchema.table(
  'work',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    job: text('job').notNull(),
    /** What the item is about; unique per job among unfinished items, so asking twice coalesces. */
    key: text('key').notNull(),
    siteId: integer('site_id'),
    payload: jsonb('payload').notNull(),
    /** What a person calls it, e.g. `order.created → shop.example`. */
    label: text('label').notNull().default(''),
    state: text('state', { enum: ['owed', 'running', 'held', 'done', 'failed', 'cancelled'] })
      .notNull()
      .default('owed'),
    /** Why it is held, failed or cancelled. */
    reason: text('reason'),
    /** Bumped by every re-arm; part of the ring's id. */
    generation: integer('generation').notNull().default(1),
    attempts: integer('attempts').notNull().default(0),
    /** Runs that ended with their process. */
    crashes: integer('crashes').notNull().default(0),
    /** Who asked for the next run: `event`, `schedule`, `retry`, `replay`, `request`, `discovery`. */
    trigger: text('trigger').notNull().default('request'),
    nextAt: instant('next_at').notNull().defaultNow(),
    /** When this generation was rung into the queue; null while only the row knows. */
    rungAt: instant('rung_at'),
    /** The remote it waits for its turn at, e.g. `https://shop.example`; null for what never had to wait. */
    lane: text('lane'),
    leaseUntil: instant('lease_until'),
    leaseToken: uuid('lease_token'),
    lastError: text('last_error'),
    progress: jsonb('progress'),
    result: jsonb('result'),
    createdAt: instant('created_at').notNull().defaultNow(),
    finishedAt: instant('finished_at'),
  },
  (t) => [
    uniqueIndex('work_unfinished_key')
      .on(t.job, t.key)
      .where(sql`state IN ('owed', 'running', 'held')`),
    index('work_job_key').on(t.job, t.key, t.id),
    index('work_owed_unrung')
      .on(t.job, t.nextAt, t.id)
      .where(sql`state = 'owed' AND rung_at IS NULL AND lane IS NULL`),
    index('work_parked')
      .on(t.lane, t.nextAt, t.id)
      .where(sql`state = 'owed' AND rung_at IS NULL AND lane IS NOT NULL`),
    index('work_lane_rung')
      .on(t.lane)
      .where(sql`state = 'owed' AND rung_at IS NOT NULL AND lane IS NOT NULL`),
    index('work_owed_rung')
      .on(t.nextAt, t.id)
      .where(sql`state = 'owed' AND rung_at IS NOT NULL`),
    index('work_running')
      .on(t.leaseUntil)
      .where(sql`state = 'running'`),
    index('work_held')
      .on(t.job, t.siteId, t.reason, t.id)
      .where(sql`state = 'held'`),
    index('work_failed')
      .on(t.job, t.id)
      .where(sql`state = 'failed'`),
    index('work_finished')
      .on(t.finishedAt)
      .where(sql`finished_at IS NOT NULL`),
  ],
)

/** Remotes that can't take all that is owed to them now: their items are parked, and rung as the remote takes them. */
export const lanes = workerSchema.table('lanes', {
  lane: text('lane').primaryKey(),
  /** Items that may be in the queue at a time. */
  window: integer('window').notNull(),
  /** Times in a row that the breaker opened; 0 while it is closed. */
  opens: integer('opens').notNull().default(0),
  /** Until when nothing is sent; after it one item at a time, until one succeeds. */
  openUntil: instant('open_until'),
  /** When the next request may go out, where the rate is limited. */
  pacedUntil: instant('paced_until'),
  changedAt: instant('changed_at').notNull().defaultNow(),
})

/** What a person set for a lane; `*` is every lane without a row of its own. */
export const laneLimits = workerSchema.table('lane_limits', {
  lane: text('lane').primaryKey(),
  /** Requests at a time, over all processes. Null: as the lane's progress allows. */
  maxConcurrent: integer('max_concurrent'),
  /** Null: unlimited. */
  requestsPerSecond: doublePrecision('requests_per_second'),
  changedAt: instant('changed_at').notNull().defaultNow(),
})

/** Asks for work that was owed already, append-only: its run may not have seen what the asker changed, so it is owed anew. */
export const askedAgain = workerSchema.table(
  'asked_again',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    workId: bigint('work_id', { mode: 'number' }).notNull(),
    askedAt: instant('asked_at').notNull().defaultNow(),
  },
  (t) => [index('asked_again_work').on(t.workId, t.id)],
)

/** The jobs of the catalog as the SQL contract sees them; written at every boot and migration. */
export const jobs = workerSchema.table('jobs', {
  job: text('job').primaryKey(),
  domain: text('domain').notNull(),
  /** Payload fields whose values, joined by `:`, are the work item's key. */
  keyFields: text('key_fields').array().notNull(),
  /** Payload field that names a row, e.g. `siteId` or `pageId`. */
  subjectField: text('subject_field'),
  /** Table in `public` that row lives in; its `site_id` (or `id` of website_sites) is the item's site. */
  subjectTable: text('subject_table'),
  /** False: only the worker itself makes such items. */
  isPublic: boolean('is_public').notNull(),
})

/** Domain switches: site 0 is every site; a site's own row wins over it. */
export const domains = workerSchema.table(
  'domains',
  {
    domain: text('domain').notNull(),
    siteId: integer('site_id').notNull().default(0),
    enabled: boolean('enabled').notNull(),
    paused: boolean('paused').notNull().default(false),
    /**
     * Highest id of the domain's source rows when it was enabled; older rows are not owed. For publishing the instant,
     * ms since 1970: pages due before it are not owed.
     */
    watermark: bigint('watermark', { mode: 'number' }).notNull().default(0),
    changedAt: instant('changed_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.domain, t.siteId] })],
)

/** Queues paused by a person; restored after the queue was wiped. */
export const queuePauses = workerSchema.table('queue_pauses', {
  job: text('job').primaryKey(),
  pausedAt: instant('paused_at').notNull().defaultNow(),
})

/** When a job is next owed without anyone asking; site 0 is the whole installation. */
export const schedules = workerSchema.table(
  'schedules',
  {
    siteId: integer('site_id').notNull().default(0),
    job: text('job').notNull(),
    everySeconds: integer('every_seconds').notNull(),
    /** Seconds after each multiple of the period, spread by a hash so that sites don't run at once. */
    offsetSeconds: integer('offset_seconds').notNull().default(0),
    nextAt: instant('next_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.siteId, t.job] }), index('schedules_next_at').on(t.nextAt)],
)

/** One row: which process dispatches, and until when if it doesn't renew. */
export const leader = workerSchema.table('leader', {
  id: integer('id').primaryKey().default(1),
  holder: uuid('holder'),
  until: instant('until').notNull().defaultNow(),
})

/** One row: the queue's identity and how far its counter had come; the queue holds the same pair. */
export const epoch = workerSchema.table('epoch', {
  id: integer('id').primaryKey().default(1),
  queueId: text('queue_id'),
  counter: bigint('counter', { mode: 'number' }).notNull().default(0),
  alarms: bigint('alarms', { mode: 'number' }).notNull().default(0),
  changedAt: instant('changed_at').notNull().defaultNow(),
})

/** One row: what stood in the database when the worker was installed. */
export const installation = workerSchema.table('installation', {
  id: integer('id').primaryKey().default(1),
  installedAt: instant('installed_at').notNull().defaultNow(),
  /** Ledger rows up to this id are the main app's own. */
  deliveryWatermark: bigint('delivery_watermark', { mode: 'number' }).notNull(),
  adopted: boolean('adopted').notNull(),
})

/** Accepted events: the exact body that is signed and sent. */
export const events = workerSchema.table(
  'events',
  {
    siteId: integer('site_id').notNull(),
    id: text('id').notNull(),
    event: text('event').notNull(),
    /** Null after `RETENTION_PAYLOADS_DAYS`. */
    body: text('body'),
    /** SHA-256 (hex) over what the caller sent, to tell a repeated event from another one. */
    hash: text('hash').notNull(),
    createdAt: instant('created_at').notNull().defaultNow(),
  },
  (t) => [
    primaryKey({ columns: [t.siteId, t.id] }),
    // Two halves for pruning, each in the order of age: an event that comes in is written to the first alone.
    index('events_body_kept')
      .on(t.createdAt)
      .where(sql`body IS NOT NULL`),
    index('events_emptied')
      .on(t.createdAt)
      .where(sql`body IS NULL`),
  ],
)

/** Every HTTP attempt of a delivery, append-only. */
export const webhookAttempts = workerSchema.table(
  'webhook_attempts',
  {
    id: bigint('id', { mode: 'number' }).generatedAlwaysAsIdentity(),
    deliveryId: integer('delivery_id').notNull(),
    attempt: integer('attempt').notNull(),
    at: instant('at').notNull().defaultNow(),
    statusCode: integer('status_code'),
    durationMs: integer('duration_ms').notNull(),
    error: text('error'),
    trigger: text('trigger').notNull(),
  },
  // Old rows are found by their deliveries: no index on `at` for every attempt to write.
  (t) => [primaryKey({ columns: [t.deliveryId, t.id] })],
)

/** What the worker knows of a webhook beyond the owner's row. */
export const webhookHealth = workerSchema.table('webhook_health', {
  webhookId: integer('webhook_id').primaryKey(),
  /** First failure since the last success; null while healthy. */
  failingSince: instant('failing_since'),
  lastSuccessAt: instant('last_success_at'),
  lastFailureAt: instant('last_failure_at'),
  /** Set when the worker (not the owner) switched the webhook off. */
  disabledAt: instant('disabled_at'),
  disabledReason: text('disabled_reason'),
})

/** How far replays of webhooks have come; one row per work item of `replay-webhook`. */
export const webhookReplays = workerSchema.table('webhook_replays', {
  workId: bigint('work_id', { mode: 'number' }).primaryKey(),
  /** Deliveries up to this id are owed again. */
  position: integer('position').notNull().default(0),
  /** Deliveries that stood in the ledger when it began; later ones aren't replayed. */
  lastId: integer('last_id').notNull(),
  /** How many there are to replay. */
  total: integer('total').notNull(),
  /** How many are owed again so far. */
  replayed: integer('replayed').notNull().default(0),
  changedAt: instant('changed_at').notNull().defaultNow(),
})

/** What was last asked of a scheduled page, where its row can't say it; gone once the page is published. */
export const pageRequests = workerSchema.table(
  'page_requests',
  {
    pageId: integer('page_id').primaryKey(),
    /** The time it was asked for; the version counts as long as the page is scheduled for it. */
    publishAt: instant('publish_at').notNull(),
    /** The only version that may be published; null for any. */
    version: integer('version'),
    /** The work item that was there already and has to be moved to `publish_at`; null once it is. */
    workId: bigint('work_id', { mode: 'number' }),
  },
  (t) => [
    index('page_requests_to_move')
      .on(t.pageId)
      .where(sql`work_id IS NOT NULL`),
  ],
)

/** Answers to requests that carried an `Idempotency-Key`, for 24 hours. */
export const idempotencyKeys = workerSchema.table(
  'idempotency_keys',
  {
    /** Name of the API key that sent it. */
    principal: text('principal').notNull(),
    key: text('key').notNull(),
    requestHash: text('request_hash').notNull(),
    status: integer('status').notNull(),
    response: jsonb('response').notNull(),
    createdAt: instant('created_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.principal, t.key] }), index('idempotency_keys_created_at').on(t.createdAt)],
)

/** Submissions whose jobs were owed once: they are not found again, however long they stay `new`. */
export const seenSubmissions = workerSchema.table('seen_submissions', {
  submissionId: integer('submission_id').primaryKey(),
  seenAt: instant('seen_at').notNull().defaultNow(),
})

/** Leads at CRMs, from before the first call: one row per submission. */
export const crmLeads = workerSchema.table('crm_leads', {
  submissionId: integer('submission_id').primaryKey(),
  /** The row of website_integrations it went to. */
  integrationId: integer('integration_id').notNull(),
  /** What the CRM finds it by. */
  reference: text('reference').notNull(),
  /** Calls that could have made it, so far. */
  attempts: integer('attempts').notNull().default(0),
  /** When the last of those began. */
  attemptedAt: instant('attempted_at').notNull().defaultNow(),
  /** From when the CRM has certainly done with that call, so that a search tells; null when its outcome is known. */
  searchFrom: instant('search_from'),
  /** The CRM's id, whatever it looks like; null until it is known. */
  leadId: text('lead_id'),
  convertedAt: instant('converted_at'),
  /** A call was repeated although the one before it could still have worked, late. */
  unsure: boolean('unsure').notNull().default(false),
  /** When it was last looked for late duplicates. */
  checkedAt: instant('checked_at'),
  /** Other leads with its reference. */
  duplicates: text('duplicates').array(),
})

/** Notifications by mail: one row per submission, from before the first attempt. */
export const submissionMails = workerSchema.table('submission_mails', {
  submissionId: integer('submission_id').primaryKey(),
  /** The same for every attempt, so that mail servers can tell a repetition. */
  messageId: text('message_id').notNull(),
  attempts: integer('attempts').notNull().default(0),
  attemptedAt: instant('attempted_at').notNull().defaultNow(),
  sentAt: instant('sent_at'),
})

/** Why a site's CRM or mail server can't be used as it is set up; what waits for it goes on once the row is gone. */
export const integrationFaults = workerSchema.table(
  'integration_faults',
  {
    siteId: integer('site_id').notNull(),
    /** As in website_integrations. */
    type: text('type').notNull(),
    /** Null when the site has none. */
    integrationId: integer('integration_id'),
    error: text('error').notNull(),
    /** A hash over the site's integrations of that type, to notice that they were changed. */
    seen: text('seen').notNull(),
    since: instant('since').notNull().defaultNow(),
    checkedAt: instant('checked_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.siteId, t.type] })],
)
