/** Tells GitHub Actions what happened, where fr1 runs there; does nothing elsewhere. */
import { appendFileSync } from 'node:fs';
import path from 'node:path';
import type { RunRecord } from '../run/run-record.ts';
import { errorAnnotations, jobSummary, type RepositoryPath, runAnnotations } from '../ui/github.ts';
import { type CliIo, writeLines } from './io.ts';

/** Annotations of errors that ended a command. */
export function reportErrorToGithub(error: unknown, io: CliIo): void {
  if (isOnGithub(io)) writeLines(io.stderr, errorAnnotations(error, repositoryPath(io)));
}

/** Annotations of a run and its part of the job summary. */
export function reportRunToGithub(record: RunRecord, drift: readonly string[], io: CliIo): void {
  if (isOnGithub(io)) writeLines(io.stderr, runAnnotations(record, repositoryPath(io)));
  const summary = io.env['GITHUB_STEP_SUMMARY'];
  if (summary) appendFileSync(summary, jobSummary(record, drift));
}

function isOnGithub(io: CliIo): boolean {
  return io.env['GITHUB_ACTIONS'] === 'true';
}

function repositoryPath(io: CliIo): RepositoryPath {
  const root = io.env['GITHUB_WORKSPACE'] ?? io.cwd;
  return (file) => {
    const relative = path.relative(root, path.resolve(io.cwd, file));
    return relative.startsWith('..') || path.isAbsolute(relative) ? undefined : relative.split(path.sep).join('/');
  };
}
