import { setFlagsFromString } from 'node:v8'

/**
 * Has garbage collected before the heap is more than half as large again as what lives in it. By itself V8 waits until it is
 * four times as large, which beside a database on the same machine is memory that nobody needs.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--heap-growing-percent=50')
}
