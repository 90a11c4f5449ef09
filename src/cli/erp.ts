import { type Command, InvalidArgumentError } from 'commander'
import { createCredentials } from '../clients/credentials.ts'
import { checkErp } from '../clients/erp/check.ts'
import { maxPageBytes } from '../clients/erp/http.ts'
import { erpTypes, resolveErp } from '../clients/erp/settings.ts'
import { createGuard } from '../clients/guard.ts'
import { createJsonCaller } from '../clients/json-call.ts'
import type { Config } from '../config.ts'
import type { Db } from '../db/client.ts'
import { findErpSite } from '../db/queries/sync/sites.ts'
import { AppError } from '../errors.ts'
import type { Terminal } from './terminal.ts'

export interface ErpCommandDeps {
  config(): Config
  /** Runs a command on the configured database. */
  onDatabase(work: (db: Db) => Promise<void>): Promise<void>
  terminal: Pick<Terminal, 'print'>
  version: string
}

function httpUrl(text: string): string {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) throw new InvalidArgumentError('an http(s) URL')
  return text
}

function siteId(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('a site id')
  return Number(text)
}

interface Options {
  url?: string
  token?: string
  site?: number
}

/** `website-worker erp-check`: is an ERP as docs/erp.md says? */
export function addErpCommands(
  program: Command,
  { config, onDatabase, terminal: { print }, version }: ErpCommandDeps,
): void {
  async function settingsOf(id: number | undefined): Promise<unknown> {
    if (id === undefined) return undefined
    let settings: unknown
    await onDatabase(async (db) => {
      const site = await findErpSite(db, id)
      if (!site) throw new AppError('not_found', `There is no site ${id}`)
      settings = site.settings
    })
    return settings
  }

  async function check({ url, token, site }: Options): Promise<void> {
    const { ERP_PROVIDER, ERP_URL, ERP_TOKEN, ERP_TIMEOUT_MS, OUTBOUND_ALLOW_CIDRS, CREDENTIALS } = config()
    const secrets = [ERP_TOKEN, token].filter((secret) => secret !== undefined)
    const credentials = createCredentials(CREDENTIALS, secrets)
    const settings = await settingsOf(site)
    const named = url === undefined ? settings : { ...(settings as object | undefined), url, credentials: null }
    const environment = { provider: ERP_PROVIDER, url: ERP_URL, token: ERP_TOKEN }
    const erp = resolveErp(named, environment, credentials)
    const caller = createJsonCaller({
      guard: createGuard({ allowCidrs: OUTBOUND_ALLOW_CIDRS }),
      timeoutMs: ERP_TIMEOUT_MS,
      maxBytes: maxPageBytes,
      userAgent: `website-worker/${version} (erp-check)`,
    })
    const counts = { ok: 0, warn: 0, fail: 0 }
    try {
      for await (const { level, what, fix } of checkErp({
        url: erp.url,
        token: token ?? erp.token,
        siteKey: erp.settings.siteKey,
        pageSize: erp.settings.pageSize,
        types: erpTypes(erp.settings),
        caller,
        redact: credentials.redact,
      })) {
        counts[level]++
        print(`${level.padEnd(5)} ${what}${fix === undefined ? '' : `\n      → ${fix}`}`)
      }
    } finally {
      await caller.close()
    }
    print(`${counts.ok} ok, ${counts.warn} to look at, ${counts.fail} failed`)
    if (counts.fail > 0) process.exitCode = 1
  }

  program
    .command('erp-check')
    .description('check that an ERP is as docs/erp.md says; only reads, a few requests')
    .option('--url <url>', 'what /products is below (default: of the site, else ERP_URL)', httpUrl)
    .option('--token <token>', 'sent as Authorization: Bearer (default: of the site, else ERP_TOKEN)')
    .option('--site <id>', 'as this site is set up', siteId)
    .action(check)
}
