import type { Judgement } from '../../db/queries/sync/run.ts'
import type { SyncMode, SyncType } from '../../erp.ts'

/** A run may do this much to a site's products without being asked twice. */
const mostShare = 0.2
const mostProducts = 50

const number = new Intl.NumberFormat('en')
const commands: Record<SyncType, string> = { product: 'products', inventory: 'inventory', price: 'prices' }

/** Why a run must not write what it would, in words; undefined when it may. */
export function brakeOf(
  { type, siteId, mode }: { type: SyncType; siteId: number; mode: SyncMode },
  judgement: Judgement,
): string | undefined {
  const { products, losingPrice, losingStock, deactivated } = judgement
  const losses = [
    [losingPrice, 'lose their price'],
    [losingStock, 'lose all their stock'],
    [deactivated, 'become inactive'],
  ] as const
  const told = losses.flatMap(([count, what]) => {
    if (count <= mostProducts || count <= products * mostShare) return []
    const share = products === 0 ? 100 : Math.round((count / products) * 100)
    return [`${number.format(count)} of ${number.format(products)} products (${share} %) would ${what}`]
  })
  if (told.length === 0) return undefined
  const command = `website-worker sync ${commands[type]} --site ${siteId}${mode === 'full' ? ' --full' : ''} --force`
  return `nothing was written: ${told.join('; ')}. If that is right: ${command}`
}
