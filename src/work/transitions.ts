// Every change of a work item, each one guarded UPDATE, whoever asks for it.
export * from './transitions/asked.ts'
export * from './transitions/form-holds.ts'
export * from './transitions/holds.ts'
export * from './transitions/rings.ts'
export * from './transitions/runs.ts'
