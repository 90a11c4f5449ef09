import type { WriteStream } from 'node:tty'

/** Where lines go. */
export interface Terminal {
  print(line: string): void
  /** Draws over what it drew last. Undefined where output isn't a terminal. */
  draw?: ((line: string) => void) | undefined
  /** Leaves what was drawn as it stands. */
  endDrawing(): void
}

/** Standard output: a terminal can be drawn on, a file or a pipe only gets lines. */
export function createTerminal(stream: Pick<WriteStream, 'write' | 'isTTY'>): Terminal {
  let drawn = false
  function endDrawing() {
    if (drawn) stream.write('\n')
    drawn = false
  }
  function draw(line: string) {
    drawn = true
    stream.write(`\r\u001B[K${line}`)
  }
  return {
    print(line) {
      endDrawing()
      stream.write(`${line}\n`)
    },
    draw: stream.isTTY ? draw : undefined,
    endDrawing,
  }
}
