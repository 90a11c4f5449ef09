import type { Command } from 'commander'
import { verifyArchive } from '../db/archive/verify.ts'
import { AppError } from '../errors.ts'
import type { Terminal } from './terminal.ts'

export interface ArchiveCommandDeps {
  /** `ARCHIVE_DIR`; undefined when it isn't set. */
  archiveDir(): string | undefined
  terminal: Pick<Terminal, 'print'>
}

/** `website-worker archive …`: what was moved out of the database to files. */
export function addArchiveCommands(program: Command, { archiveDir, terminal: { print } }: ArchiveCommandDeps): void {
  program
    .command('archive')
    .description('look at what was moved out of the database to files')
    .command('verify')
    .description('read every file back and hold it against its manifest; needs no database')
    .option('--dir <folder>', 'default: ARCHIVE_DIR')
    .action(async (options: { dir?: string }) => {
      const dir = options.dir ?? archiveDir()
      if (dir === undefined) throw new AppError('misconfigured', 'ARCHIVE_DIR is not set: say --dir')
      let [files, rows, faults] = [0, 0, 0]
      for await (const verified of verifyArchive(dir)) {
        files++
        rows += verified.rows
        if (verified.fault === undefined) continue
        faults++
        print(`${verified.file}: ${verified.fault}`)
      }
      if (faults > 0) throw new AppError('conflict', `${faults} of ${files} files are not what was written`)
      print(`${files} files, ${rows} rows: all as they were written`)
    })
}
