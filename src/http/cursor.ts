import { AppError } from '../errors.ts'

/** Makes an opaque page cursor of the last id shown. */
export const writeCursor = (id: number) => Buffer.from(`<${id}`).toString('base64url')

/** Reads a cursor of ours. @throws AppError `invalid` */
export function readCursor(cursor: string): number {
  const [, digits] = /^<([1-9]\d{0,9})$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? []
  const id = Number(digits)
  if (digits === undefined || id > 2_147_483_647 || writeCursor(id) !== cursor) {
    throw new AppError('invalid', 'Not a cursor: pass `nextCursor` of the page before', { field: 'cursor' })
  }
  return id
}
