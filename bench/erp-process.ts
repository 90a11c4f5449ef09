import { fillCatalogue } from '../test/fixtures/erp-catalogue.ts'
import { startErp } from '../test/fixtures/erp.ts'

// An ERP with a memory and an event loop of its own, so that neither counts as the worker's.
const erp = await startErp()
fillCatalogue(erp, Number(process.argv[2]))
process.on('message', () => {
  process.send?.({ requests: erp.requests.length })
  erp.clearLog()
})
process.on('disconnect', () => process.exit(0))
process.send?.({ url: erp.url })
