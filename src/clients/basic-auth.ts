/** `https://user:secret@host/` means basic authentication; undici alone would drop it. */
export function basicAuth({ username, password }: URL, headers: readonly string[]): string[] {
  if (username === '' && password === '') return []
  if (headers.some((name, index) => index % 2 === 0 && name.toLowerCase() === 'authorization')) return []
  const plain = Buffer.from(`${percentDecoded(username)}:${percentDecoded(password)}`)
  return ['authorization', `Basic ${plain.toString('base64')}`]
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
