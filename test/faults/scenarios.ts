import { backendSwitch } from './backend-switch.ts'
import { brokenHead } from './broken-head.ts'
import { deadDay } from './dead-day.ts'
import { endlessBodies } from './endless-bodies.ts'
import { erpBrake } from './erp-brake.ts'
import { erpConfig } from './erp-config.ts'
import { erpFlush } from './erp-flush.ts'
import { erpGarbage } from './erp-garbage.ts'
import { erpHostile } from './erp-hostile.ts'
import { erpKill } from './erp-kill.ts'
import { erpOrder } from './erp-order.ts'
import { flushStorm } from './flush-storm.ts'
import { garbageInTheQueue } from './garbage.ts'
import { hangingOrigins } from './hanging-origins.ts'
import { kill9 } from './kill-9.ts'
import { leadStorm, unsureLeads } from './leads.ts'
import { memory } from './memory.ts'
import { oldDump } from './old-dump.ts'
import { partition } from './partition.ts'
import { postgresRestart } from './postgres-restart.ts'
import { publishing } from './publishing.ts'
import { redisDown } from './redis-down.ts'
import { replay } from './replay.ts'
import { rollups } from './rollups.ts'
import { secondRedis } from './second-redis.ts'
import { sigterm } from './sigterm.ts'
import { sqlEmit } from './sql-emit.ts'
import { swappedRedis } from './swapped-redis.ts'
import { twoProcesses } from './two-processes.ts'
import type { Scenario } from './world.ts'

/** Every fault there is a promise about. */
export const scenarios: readonly Scenario[] = [
  flushStorm,
  oldDump,
  swappedRedis,
  backendSwitch,
  redisDown,
  kill9,
  replay,
  brokenHead,
  sqlEmit,
  sigterm,
  twoProcesses,
  secondRedis,
  postgresRestart,
  garbageInTheQueue,
  memory,
  endlessBodies,
  publishing,
  hangingOrigins,
  deadDay,
  leadStorm,
  unsureLeads,
  partition,
  rollups,
  erpBrake,
  erpGarbage,
  erpConfig,
  erpFlush,
  erpHostile,
  erpKill,
  erpOrder,
]
