import { AppError } from '../errors.ts'

/** Makes an opaque page cursor of the last id shown. */
export const writeCursor = (id: number) => Buffer.from(`<${id}`).toString('base64url')

const notOurs = () => new AppError('invalid', 'Not a cursor: pass `nextCursor` of the page before', { field: 'cursor' })

/** Reads a cursor of ours. `largest`: the largest id there may be. @throws AppError `invalid` */
export function readCursor(cursor: string, largest = 2_147_483_647): number {
  const [, digits] = /^<([1-9]\d{0,15})$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? []
  const id = Number(digits)
  if (digits === undefined || id > largest || writeCursor(id) !== cursor) {
    throw notOurs()
  }
  return id
}

/** Makes an opaque page cursor of the last name shown. */
export const writeNameCursor = (name: string) => Buffer.from(`>${name}`).toString('base64url')

/** Reads a cursor that names what was shown last. @throws AppError `invalid` */
export function readNameCursor(cursor: string): string {
  const [, name] = /^>(\P{Cc}+)$/u.exec(Buffer.from(cursor, 'base64url').toString()) ?? []
  if (name === undefined || writeNameCursor(name) !== cursor) throw notOurs()
  return name
}
