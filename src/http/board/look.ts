import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** The page without what it loads from elsewhere, and with our stylesheet. */
export function withOwnLook(html: string): string {
  return html
    .replace(/<link\b[^>]*\bhref="https?:[^>]*>\s*/g, '')
    .replace('</head>', '<link href="board.css" rel="stylesheet"></head>')
}

/** Hides the changes that are refused anyway, by the icon they carry, and the states no ring is ever in. */
export const stylesheet = `
[role='menuitem']:has(.lucide-plus, .lucide-chart-no-axes-gantt, .lucide-trash-2, .lucide-ban),
[class*='dropdown-'] > [role='menuitem']:has(.lucide-pause, .lucide-play),
[class*='jobActions-'] > li:has(.lucide-files, .lucide-pencil, .lucide-clock),
[class*='queueActions-'] > li:has(.lucide-trash-2),
[class*='stickyHeader-']:has([class*='completed-'] > a[aria-current]) [class*='queueActions-'],
[class*='statusTabs-'] > li:has(> a[href*='status=waiting-children'], > a[href*='status=prioritized']),
button:has(.lucide-pencil) {
  display: none !important;
}
`

const ourWords = {
  JOB: {
    ACTIONS: {
      CLEAN: 'Remove',
      PROMOTE: 'Run now',
      CONFIRM: {
        CLEAN: 'Remove this ring? Work that still waits is cancelled; of finished work only this entry goes.',
        RETRY: 'Do this work again, from its first attempt?',
        PROMOTE: 'Do this work now instead of later?',
      },
    },
  },
  QUEUE: {
    ACTIONS: {
      PROMOTE_ALL: 'Run all now',
      CONFIRM: {
        PROMOTE_ALL:
          'Do everything in this list now instead of later? What is due in more than 10 minutes is not in the list.',
      },
    },
    TOAST: { RETRY_SKIPPED: '{{count}} were left alone: the same work is already owed, or its work item is gone.' },
  },
}

type Words = { [key: string]: string | Words }

function merged(theirs: Words, ours: Words): Words {
  const result = { ...theirs }
  for (const [key, value] of Object.entries(ours)) {
    const below = result[key]
    result[key] = typeof value === 'object' && typeof below === 'object' ? merged(below, value) : value
  }
  return result
}

/** The page's words in a language it has; in English they say what the buttons do here. */
export async function wordsOf(staticPath: string, language: string): Promise<Words | undefined> {
  if (!/^[a-z]{2}-[A-Z]{2}$/.test(language)) return undefined
  const text = await readFile(join(staticPath, 'locales', language, 'messages.json'), 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const theirs = JSON.parse(text) as Words
  return language.startsWith('en-') ? merged(theirs, ourWords) : theirs
}
