/** Waits for a promise for so long and no longer; what it comes to later is left alone. @throws when it was too slow */
export async function within<T>(promise: Promise<T>, ms: number, what = 'no answer'): Promise<T> {
  let late: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        late = setTimeout(() => reject(new Error(`${what} within ${ms} ms`)), ms)
      }),
    ])
  } finally {
    clearTimeout(late)
  }
}
