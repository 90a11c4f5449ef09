import { AppError } from '../../errors.ts'

/** What every reader of a field throws: AppError `invalid`, whose message names the field. */
export const wrong = (field: string, what: string) => new AppError('invalid', `${field}: ${what}`, { field })

/** Neither can be stored by PostgreSQL. */
const unstorable = /[\0\p{Cs}]/u
const longestText = 100_000
const longestShown = 40

/** A value as it may stand in a sentence. */
function shown(value: unknown): string {
  if (typeof value === 'object') return Array.isArray(value) ? 'a list' : 'an object'
  const text = String(value)
  const cut = text.length > longestShown ? `${text.slice(0, longestShown)}…` : text
  return typeof value === 'string' ? JSON.stringify(cut) : cut
}

/** Characters as PostgreSQL counts them; only as exactly as needed to tell whether there are more than `most`. */
function isLonger(text: string, most: number): boolean {
  if (text.length <= most) return false
  return text.length > 2 * most || [...text].length > most
}

/** A text of at most so many characters that can be stored. */
export function readText(value: unknown, field: string, most: number = longestText): string {
  if (typeof value !== 'string') throw wrong(field, value == null ? 'is missing' : `${shown(value)} is no text`)
  if (isLonger(value, most)) {
    const length = value.length > 2 * longestText ? `more than ${longestText}` : [...value].length
    throw wrong(field, `has ${length} characters; at most ${most} are possible`)
  }
  if (unstorable.test(value))
    throw wrong(field, value.includes('\0') ? 'holds a NUL character' : 'holds half of a character (a lone surrogate)')
  return value
}

/** A text that isn't blank. */
export function readFilledText(value: unknown, field: string, most: number): string {
  const text = readText(value, field, most)
  if (text.trim() === '') throw wrong(field, 'is empty')
  return text
}

/** An SKU stays as it is: one that was trimmed couldn't be asked for any more. */
export function readSku(value: unknown, field = 'sku'): string {
  const sku = readFilledText(value, field, 100)
  if (sku !== sku.trim()) throw wrong(field, `${shown(sku)} begins or ends with a blank`)
  if (/\p{Cc}/u.test(sku)) throw wrong(field, 'holds a control character')
  return sku
}

/** An id of any kind, as text. */
export function readId(value: unknown, field = 'id'): string {
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value)) return String(value)
    throw wrong(field, Number.isInteger(value) ? 'is too large to be exact: send it as text' : 'is no whole number')
  }
  const id = readFilledText(value, field, 255)
  if (/\p{Cc}/u.test(id)) throw wrong(field, 'holds a control character')
  return id
}

const decimalForm = /^(-?)0*(\d*)(?:\.(\d*?)0*)?$/

/** The parts of a decimal, without zeros that mean nothing. */
function parseDecimal(value: unknown, field: string): { isNegative: boolean; whole: string; fraction: string } {
  if (value == null) throw wrong(field, 'is missing')
  if (typeof value !== 'string' && typeof value !== 'number') throw wrong(field, `${shown(value)} is no decimal number`)
  const text = String(value)
  if (typeof value === 'number' && /[eIN]/.test(text))
    throw wrong(field, `${text} is ${Math.abs(value) < 1 ? 'too small' : 'too large'} to be exact`)
  const parts = text.length <= 100 && /^-?\d+(\.\d+)?$/.test(text) ? decimalForm.exec(text) : null
  if (!parts) throw wrong(field, `${shown(value)} is no decimal number like "19.90"`)
  const [, sign, whole = '', fraction = ''] = parts
  return { isNegative: sign === '-' && (whole !== '' || fraction !== ''), whole, fraction }
}

/** What DECIMAL(10,2) takes. */
const wholeDigits = 8
/** As most are written, which is how DECIMAL(10,2) writes them, too. */
const plainForm = /^(?:0|[1-9]\d{0,7})\.\d\d$/
const isPlain = (value: unknown): value is string => typeof value === 'string' && plainForm.test(value)

/** An amount of money, as DECIMAL(10,2) writes it. */
export function readMoney(value: unknown, field: string): string {
  if (isPlain(value)) return value
  const { isNegative, whole, fraction } = parseDecimal(value, field)
  if (isNegative) throw wrong(field, `${shown(value)} is negative`)
  if (fraction.length > 2) throw wrong(field, `${shown(value)} has more than two decimal places`)
  if (whole.length > wholeDigits) throw wrong(field, `${shown(value)} is more than 99999999.99`)
  return `${whole || '0'}.${fraction.padEnd(2, '0')}`
}

/** A weight: rounded to the two places of its column, half up; it is no money. */
export function readWeight(value: unknown, field: string): string {
  if (isPlain(value)) return value
  const { isNegative, whole, fraction } = parseDecimal(value, field)
  if (isNegative) throw wrong(field, `${shown(value)} is negative`)
  const hundredths =
    BigInt(`${whole}${fraction.padEnd(2, '0').slice(0, 2)}`) + (Number(fraction[2] ?? 0) >= 5 ? 1n : 0n)
  const digits = String(hundredths).padStart(3, '0')
  if (digits.length > wholeDigits + 2) throw wrong(field, `${shown(value)} is more than 99999999.99`)
  return `${digits.slice(0, -2)}.${digits.slice(-2)}`
}

const largestInteger = 2_147_483_647

/** A number of pieces; less than none is possible, half of one is not. */
export function readQuantity(value: unknown, field: string): number {
  const { isNegative, whole, fraction } = parseDecimal(value, field)
  if (fraction !== '') throw wrong(field, `${shown(value)} is no whole number`)
  if (whole.length > 10 || Number(whole) > largestInteger) throw wrong(field, `${shown(value)} is out of range`)
  return isNegative ? -Number(whole) : Number(whole)
}

const instantForm = /^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2})(?:[.,](\d{1,9}))?(Z|[+-]\d{2}(?::?\d{2})?)$/i

/** A version: an instant becomes nanoseconds since 1970, an integer stays its digits. */
export function readVersion(value: unknown, field = 'version'): string {
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value)) return String(value)
    throw wrong(field, Number.isInteger(value) ? 'is too large to be exact: send it as text' : 'is no whole number')
  }
  if (typeof value !== 'string') throw wrong(field, value == null ? 'is missing' : `${shown(value)} is no version`)
  if (/^-?\d{1,30}$/.test(value)) return String(BigInt(value))
  const [, second, fraction = '', offset = ''] = instantForm.exec(value) ?? []
  const atMs = second === undefined ? Number.NaN : instantMs(second, offset)
  if (Number.isNaN(atMs))
    throw wrong(field, `${shown(value)} is neither a whole number nor an instant like 2026-03-01T12:00:00Z`)
  return String(BigInt(atMs) * 1_000_000n + BigInt(fraction.padEnd(9, '0')))
}

function instantMs(second: string, offset: string): number {
  const [sign = '', hours = '', minutes = '00'] = /^([+-])(\d{2}):?(\d{2})?$/.exec(offset)?.slice(1) ?? []
  const local = second.replace(' ', 'T').toUpperCase()
  const atMs = Date.parse(`${local}Z`)
  // Node takes February 30 for March 2.
  if (Number.isNaN(atMs) || new Date(atMs).toISOString().slice(0, 19) !== local) return Number.NaN
  if (sign === '') return atMs
  if (Number(hours) > 23 || Number(minutes) > 59) return Number.NaN
  return atMs - (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * 60_000
}

/** What a JSON column may be made of. */
const deepest = 8
const mostValues = 2_000

/** Checks that a JSON value can be stored and isn't out of all proportion; it is returned as it is. */
export function readJson<T>(value: T, field: string): T {
  let values = 0
  let characters = 0
  function check(part: unknown, depth: number): void {
    if (++values > mostValues) throw wrong(field, `holds more than ${mostValues} values`)
    if (depth > deepest) throw wrong(field, `is nested more than ${deepest} levels deep`)
    if (typeof part === 'string') checkText(part)
    else if (typeof part === 'number' && !Number.isFinite(part)) throw wrong(field, 'holds a number out of range')
    else if (Array.isArray(part)) for (const each of part) check(each, depth + 1)
    else if (typeof part === 'object' && part !== null)
      for (const key of Object.keys(part)) {
        checkText(key)
        check((part as Record<string, unknown>)[key], depth + 1)
      }
  }
  function checkText(text: string): void {
    characters += text.length
    if (characters > longestText) throw wrong(field, `holds more than ${longestText} characters`)
    readText(text, field)
  }
  check(value, 1)
  return value
}

/** A JSON object. */
export function readObject(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wrong(field, `${shown(value)} is no object`)
  return readJson(value as Record<string, unknown>, field)
}

/** A list of at most so many. */
export function readList(value: unknown, field: string, most: number): unknown[] {
  if (!Array.isArray(value)) throw wrong(field, `${shown(value)} is no list`)
  if (value.length > most) throw wrong(field, `has ${value.length} entries; at most ${most} are possible`)
  return value
}

/** One of a few words. */
export function readWord<Word extends string>(value: unknown, field: string, words: readonly Word[]): Word {
  const word = words.find((each) => each === value)
  if (word === undefined) throw wrong(field, `${shown(value)} is none of ${words.join(', ')}`)
  return word
}
