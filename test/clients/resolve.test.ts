import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startNameServer, type NameAnswer, type NameServer } from '../fixtures/name-server.ts'
import { makeScratch, removeScratch } from '../fixtures/scratch.ts'

let names: NameServer
let answers: Record<string, NameAnswer>
beforeEach(async () => {
  answers = {}
  names = await startNameServer((name) => answers[name] ?? [])
})
afterEach(() => names.close())

test('gives all addresses of a name, of both kinds', async () => {
  answers = { 'both.test': ['127.0.0.2', '127.0.0.3', '::1'], 'six.test': ['2001:db8::7'] }
  expect(await names.resolve('both.test')).toEqual(['127.0.0.2', '127.0.0.3', '::1'])
  expect(await names.resolve('six.test')).toEqual(['2001:db8::7'])
})

test.each([4, 6] as const)(
  'does without the addresses of kind %d where a name server keeps silent about them',
  async (silent) => {
    const lame = await startNameServer((_, __, family) => (family === silent ? 'silence' : ['127.0.0.2', '::1']))
    expect(await lame.resolve('lame.test')).toEqual([silent === 4 ? '::1' : '127.0.0.2'])
    await lame.close()
  },
)

test('names whose name servers never answer keep no other name waiting', async () => {
  answers['alive.test'] = ['127.0.0.2']
  for (let n = 0; n < 50; n++) answers[`dead-${n}.test`] = 'silence'
  const asked: string[] = []
  const resolve = names.resolver({
    system: async (name) => {
      asked.push(name)
      return ['127.0.0.9']
    },
  })
  let isSilent = true
  const dead = Promise.race(Array.from({ length: 50 }, (_, n) => resolve(`dead-${n}.test`).catch(() => [])))
  void dead.then(() => (isSilent = false))
  expect(await resolve('alive.test')).toEqual(['127.0.0.2'])
  expect(isSilent).toBe(true)
  expect(asked, 'the system has few threads for this').toEqual([])
})

test('what no name server knows is asked of the system, one name at a time', async () => {
  const open: (() => void)[] = []
  const asked: string[] = []
  const resolve = names.resolver({
    system: (name) => {
      asked.push(name)
      return new Promise((done) => open.push(() => done([`127.0.0.${asked.length}`])))
    },
  })
  const one = resolve('intranet')
  const two = resolve('printer')
  await expect.poll(() => asked.length).toBe(1)
  open[0]?.()
  expect([await one, asked.length].flat()).toContain('127.0.0.1')
  await expect.poll(() => asked.length).toBe(2)
  open[1]?.()
  await two
  expect(asked.toSorted()).toEqual(['intranet', 'printer'])
})

test('an error of the name server is no proof that there is no such name', async () => {
  answers['broken.test'] = 'servfail'
  await expect(names.resolve('broken.test')).rejects.toMatchObject({ code: 'EAI_AGAIN' })
  await expect(names.resolve('nowhere.test')).rejects.toMatchObject({ code: 'ENOTFOUND' })
})

test('names of the hosts file are the system’s, whatever name servers say', async () => {
  const folder = makeScratch()
  const hostsFile = join(folder, 'hosts')
  await writeFile(hostsFile, '127.0.0.1 localhost\n# 10.0.0.1 commented.test\n127.0.0.7\tShop.Test alias.test # note\n')
  answers = { 'shop.test': ['127.0.0.2'], 'commented.test': ['127.0.0.2'] }
  const resolve = names.resolver({ hostsFile, system: async (name) => [name === 'nobody.test' ? '' : '127.0.0.7'] })
  expect(await resolve('shop.test')).toEqual(['127.0.0.7'])
  expect(await resolve('alias.test.')).toEqual(['127.0.0.7'])
  expect(await resolve('commented.test')).toEqual(['127.0.0.2'])
  removeScratch(folder)
})
