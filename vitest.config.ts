import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/fixtures/global-setup.ts'],
    setupFiles: ['test/fixtures/setup.ts'],
    // A process per file: a leak is found where it happened, and a crash takes only its own file along.
    pool: 'forks',
    // Tests wait for servers more than they compute; more than this and they wait for each other.
    maxWorkers: 3,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    retry: 0,
  },
})
