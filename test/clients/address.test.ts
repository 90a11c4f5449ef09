import { describe, expect, test } from 'vitest'
import { addressRefusal, parseRanges } from '../../src/clients/address.ts'
import { createGuard } from '../../src/clients/guard.ts'

const reasons: Record<string, string[]> = {
  'an unspecified address': ['0.0.0.0', '0.1.2.3', '::'],
  'a loopback address': ['127.0.0.1', '127.0.0.2', '127.255.255.254', '::1'],
  'a private address': [
    '10.0.0.1',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    'fc00::1',
    'fd12:3456::1',
    'fd00:ec2::254',
    'fec0::1',
  ],
  'a carrier-grade NAT address': ['100.64.0.1', '100.100.100.200', '100.127.255.255'],
  'a link-local address': ['169.254.0.1', '169.254.169.254', 'fe80::1', 'febf::1', 'fe80::1%eth0'],
  'a multicast address': ['224.0.0.1', '239.255.255.255', 'ff02::1', 'ff0e::1'],
  'the broadcast address': ['255.255.255.255'],
  'a documentation address': ['192.0.2.1', '198.51.100.7', '203.0.113.9', '2001:db8::1', '3fff::1'],
  'a benchmark address': ['198.18.0.1', '198.19.255.255', '2001:2::1'],
  'a reserved address': [
    '192.0.0.8',
    '192.0.0.170',
    '240.0.0.1',
    '254.1.1.1',
    '192.31.196.1',
    '192.52.193.1',
    '192.175.48.1',
    '100::1',
    '100:0:0:1::1',
    '::1:0:0:1',
    '64:ff9a:ffff::1',
    '2001:10::1',
    '2001:20::1',
    '2001:30::1',
    '2001:4:112::1',
    '2001:1ff::1',
    '2620:4f:8000::1',
    '4000::1',
    '5f00::1',
    '8000::1',
    'e000::1',
  ],
  'a 6to4 relay address': ['192.88.99.1'],
  'a 6to4 address': ['2002:7f00:1::', '2002:5db8:d822::1'],
  'a Teredo address': ['2001::1', '2001:0:5ef5:79fd::1'],
  'a NAT64 address': [
    '64:ff9b::7f00:1',
    '64:ff9b::10.0.0.1',
    '64:ff9b::5db8:d822',
    '64:ff9b:1::1',
    '64:ff9b:1:ffff::a00:1',
  ],
  'a v4-mapped address': ['::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:93.184.216.34'],
  'a v4-translated address': ['::ffff:0:7f00:1'],
  'a v4-compatible address': ['::127.0.0.1', '::5db8:d822', '::2'],
  'a cloud metadata address': ['168.63.129.16'],
  'not an address': ['', 'localhost', '127.1', '0x7f.1', '2130706433', '[::1]', '1.2.3.4.5'],
}
const routable = [
  '1.1.1.1',
  '8.8.8.8',
  '9.255.255.255',
  '11.0.0.0',
  '93.184.216.34',
  '100.63.255.255',
  '100.128.0.0',
  '126.255.255.255',
  '128.0.0.1',
  '169.253.255.255',
  '169.255.0.0',
  '172.15.255.255',
  '172.32.0.0',
  '192.0.1.1',
  '192.167.255.255',
  '192.169.0.0',
  '198.17.255.255',
  '198.20.0.0',
  '223.255.255.255',
  '2001:4860:4860::8888',
  '2606:4700::1111',
  '2a00:1450::1',
  '3ffe::1',
]

describe('addressRefusal', () => {
  const cases = Object.entries(reasons).flatMap(([reason, ips]) => ips.map((ip) => [ip, reason] as const))
  test.each(cases)('refuses %s as %s', (ip, reason) => expect(addressRefusal(ip, [])).toBe(reason))
  test.each(routable)('lets %s pass', (ip) => expect(addressRefusal(ip, [])).toBeNull())

  test('lets what is allowed pass, and its v4-mapped form, and nothing beside it', () => {
    const allowed = parseRanges(['10.1.0.0/16', ' ::1/128', '127.0.0.2'])
    for (const ip of ['10.1.2.3', '::ffff:10.1.2.3', '::1', '127.0.0.2', '::ffff:7f00:2']) {
      expect(addressRefusal(ip, allowed), ip).toBeNull()
    }
    for (const ip of [
      '10.2.0.1',
      '::ffff:10.2.0.1',
      '::',
      '127.0.0.1',
      '2002:a01:203::',
      '64:ff9b::a01:203',
      '::10.1.2.3',
    ]) {
      expect(addressRefusal(ip, allowed), ip).not.toBeNull()
    }
  })

  test('never takes a v4-mapped address for a host of IPv6', () => {
    expect(addressRefusal('::ffff:10.0.0.1', parseRanges(['::/0']))).toBe('a v4-mapped address')
    expect(addressRefusal('::ffff:10.0.0.1', parseRanges(['::ffff:10.0.0.0/104']))).toBeNull()
    expect(addressRefusal('10.0.0.1', parseRanges(['::/0', '::ffff:10.0.0.0/104']))).toBe('a private address')
    expect(addressRefusal('fd00::1', parseRanges(['0.0.0.0/0']))).toBe('a private address')
  })

  test.each(['10.0.0.0/33', '10.0.0/8', '0x0a.1/8', 'example.com', '', 'fd00::/129', '1/8'])(
    'refuses %j as a range',
    (cidr) => {
      expect(() => parseRanges([cidr])).toThrow(`"${cidr}" is not a range`)
    },
  )
})

describe('checkUrl', () => {
  const guard = createGuard()

  test.each([
    'http://127.0.0.1/',
    'http://127.1/',
    'http://0x7f.1/',
    'http://0x7f000001/',
    'http://2130706433/',
    'http://0177.0.0.1/',
    'http://0177.1/',
    'http://017700000001:8080/',
    'http://127.0.0.1./',
    'http://127.0.0.2/',
    'http://①②⑦.⓪.⓪.①/',
    'http://127。0。0。1/',
    'http://user:secret@127.0.0.1/',
    'http://0/',
    'http://0.0.0.0/',
    'http://[::1]/',
    'http://[0:0:0:0:0:0:0:1]/',
    'http://[::]/',
    'http://[::ffff:127.0.0.1]/',
    'http://[::ffff:7f00:1]/',
    'http://[::127.0.0.1]/',
    'http://[64:ff9b::127.0.0.1]/',
    'http://[fe80::1]/',
    'https://169.254.169.254/latest/meta-data',
    'https://0xa9fea9fe/',
    'https://2852039166/',
    'https://192.168.257/',
    'https://10.1/',
    'http://localhost/',
    'http://LOCALHOST./',
    'http://shop.localhost:3000/',
    'http://%31%32%37.0.0.1/',
    'http://127%2e0%2e0%2e1/',
    'http://１２７.０.０.１/',
    'http://１２７。１/',
    'http://loc%61lhost/',
    'http://ｌｏｃａｌｈｏｓｔ/',
    'HTTP://127.0.0.1/',
    'hTTps:127.0.0.1',
    'http:/127.0.0.1/',
    'http:///127.0.0.1/',
    'http:\\\\127.0.0.1\\hook',
    'http://example.com@127.0.0.1/',
    'http://example.com:80@127.0.0.1/',
    'http://example.com%2f@127.0.0.1/',
    'http://127.0.0.1#@example.com/',
    'http://127.0.0.1?@example.com/',
    'http://127.0.0.1\\@example.com/',
    'ht\ntp://12\t7.0.0.1/',
    ' \r\nhttp://127.0.0.1/ ',
    'http://0x7F000001/',
    'http://0X7f.0.0x0.01/',
    'http://127.0x000001/',
    'http://00000000000000000177.1/',
    'http://0x/',
    'http://3232235777/',
    'http://[::FFFF:127.0.0.1]/',
    'http://[0000:0000:0000:0000:0000:ffff:7f00:0001]/',
    'http://[2002:7f00:1::]/',
    'http://[64:FF9B::a9fe:a9fe]/',
    'http://[2001:0:5ef5:79fd::1]/',
  ])('refuses %s', (url) => {
    expect(() => guard.checkUrl(url)).toThrow(/^refused by the outbound guard: /)
    expect(() => guard.checkUrl(url)).not.toThrow(/secret/)
  })

  test.each([
    'ftp://example.com/',
    'file:///etc/passwd',
    'gopher://example.com/',
    'javascript:alert(1)',
    'data:,x',
    'ws://example.com',
  ])('takes %s for no web address', (url) => expect(() => guard.checkUrl(url)).toThrow('not with http: or https:'))

  test.each([
    '',
    'example.com/hook',
    'http://',
    'http://[::1',
    'http://256.256.256.256/',
    'http://a b/',
    '//example.com',
    'http://@/',
    'http://:80/',
    'http://user@/',
    'http://[fe80::1%25eth0]/',
    'http://[fe80::1%eth0]/',
    'http://[127.0.0.1]/',
    'http://[::ffff:127.1]/',
    'http://127.0.0.1.5/',
    'http://4294967296/',
    'http://0x100000000/',
    'http://127.0.0.0x1ff/',
    'http://09.0.0.1/',
    'http://example.com:65536/',
    'http://example.com:-1/',
    'http://exa%00mple.com/',
    'http://exa%0d%0ample.com/',
    'http://example.com%2f/',
    'http://xn--/',
  ])('takes %j for no URL', (url) => expect(() => guard.checkUrl(url)).toThrow('the URL is not a web address'))

  test.each(['http://example.com:0/', 'http://example.com:000/', 'http://127.0.0.1:0/'])(
    'has no port to go to in %s',
    (url) => expect(() => guard.checkUrl(url)).toThrow(/port 0|guard/),
  )

  test.each([
    'http://a..b/',
    'http://.example.com/',
    'http://../',
    'http://example.com../',
    'http://localhost../',
    `http://${'a'.repeat(64)}.com/`,
    `http://${'a.'.repeat(127)}com/`,
    `http://${'a'.repeat(100_000)}/`,
  ])('finds no possible name in %.40s', (url) =>
    expect(() => guard.checkUrl(url)).toThrow(/^the URL's host is no possible name$/),
  )

  test('lets names and public addresses pass, and localhost where loopback is allowed', () => {
    for (const url of [
      'https://example.com/hook',
      'http://8.8.8.8/',
      'https://[2606:4700::1111]:8443/',
      'https://localhost.example.com/',
      'https://example.com./',
      'https://bücher.example/',
      'https://my_shop.example/',
      `https://${'a'.repeat(63)}.${'b.'.repeat(94)}c/`,
    ]) {
      expect(guard.checkUrl(url)).toBeInstanceOf(URL)
    }
    expect(createGuard({ allowCidrs: ['127.0.0.0/8'] }).checkUrl('http://localhost:3000/')).toBeInstanceOf(URL)
  })
})
