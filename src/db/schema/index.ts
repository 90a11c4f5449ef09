export * from './shared.ts'
export * from './worker.ts'
