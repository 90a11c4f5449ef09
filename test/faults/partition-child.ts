import { withMaintenanceConnection } from '../../src/db/ddl.ts'
import { enablePartitions } from '../../src/db/partitions/convert.ts'

// Converts in small batches, so that there is a middle to be killed in.
const url = process.argv[2]
if (url === undefined) throw new Error('a database URL is needed')
await withMaintenanceConnection(
  url,
  () => {},
  (db) => enablePartitions(db, 'website_pageviews', { batch: 200 }),
)
