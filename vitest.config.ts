import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'stages/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: ['test/e2e/**', 'test/crash/**', 'test/fuzz/**', 'node_modules/**'],
          // For a test that hangs: on a busy machine one of seconds takes minutes.
          testTimeout: 240_000,
          hookTimeout: 240_000,
          pool: 'forks',
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: 'e2e',
          // After the unit tests, which would take the processors that its time limits count on.
          sequence: { groupOrder: 1 },
          include: ['test/e2e/**/*.e2e.test.ts'],
          testTimeout: 600_000,
          pool: 'forks',
          maxWorkers: 1,
        },
      },
      {
        test: {
          // Minutes long, so no part of `npm test`.
          name: 'crash',
          include: ['test/crash/**/*.crash.test.ts'],
          testTimeout: 3_600_000,
          pool: 'forks',
          maxWorkers: 1,
        },
      },
      {
        test: {
          name: 'fuzz',
          include: ['test/fuzz/**/*.fuzz.test.ts'],
          testTimeout: 3_600_000,
          pool: 'forks',
          maxWorkers: 1,
        },
      },
    ],
  },
});
