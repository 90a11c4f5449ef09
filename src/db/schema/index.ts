export * from './shared.ts'
export * from './worker-schema.ts'
export * from './worker.ts'
export * from './erp.ts'
