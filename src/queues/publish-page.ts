import { z } from 'zod'
import { defineJob } from './define-job.ts'

const second = 1_000
const minute = 60 * second

/** Publishes a page when its row says so: `status = 'scheduled'` and `publish_at`. */
export const publishPage = defineJob({
  name: 'publish-page',
  domain: 'publishing',
  schema: z.object({
    pageId: z.int32().positive(),
    publishAt: z.iso
      .datetime({ offset: true, local: true })
      .optional()
      .describe(
        "When; an instant, or wall time without an offset in the site's timezone: an hour that is skipped is an hour later, one that comes twice is the first. Default: when the page is scheduled for, else now.",
      ),
    version: z.int32().positive().optional().describe('The only version that may be published. Default: any.'),
  }),
  key: ['pageId'],
  subject: { field: 'pageId', table: 'website_pages' },
  dueAt: 'publishAt',
  ringAheadMs: 200,
  // The long tail is for a page that someone keeps locked.
  retry: {
    waitsMs: [0, second, second, 2 * second, 5 * second, 10 * second, 30 * second, ...Array<number>(60).fill(minute)],
  },
  // Many wait together for one instant, and then travel together.
  worker: { concurrency: 1_000 },
})

export type PublishPagePayload = z.infer<typeof publishPage.schema>
