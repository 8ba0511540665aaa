/** Errors of the file system that have one clear cause, told in words: a full disk, a folder that may not be written. */
import { sep } from 'node:path';
import { errorCodeOf } from '../artifacts/durable-fs.ts';
import { Fr1Error } from '../errors/fr1-error.ts';

/**
 * The error with its cause in words, where the disk is full or something below `directory` may not be written; else the
 * error as it came.
 */
export function explainDiskError(error: unknown, directory: string): unknown {
  for (let each = error, depth = 0; each instanceof Error && depth < 10; each = each.cause, depth++) {
    if (each instanceof Fr1Error && (each.code === 'DISK_FULL' || each.code === 'WORKSPACE_NOT_WRITABLE')) return error;
    const code = errorCodeOf(each);
    const path = 'path' in each && typeof each.path === 'string' ? each.path : undefined;
    const place = path === undefined ? '' : ` at ${path}`;
    // `watch` runs out of places of its own.
    const isRoom = !('syscall' in each && each.syscall === 'watch');
    if ((code === 'ENOSPC' && isRoom) || code === 'EDQUOT') {
      return new Fr1Error('DISK_FULL', `there is no room left on the disk${place}`, {
        hint: 'make room (`fr1 gc` removes what no recent run uses), then run the same command again',
        cause: error,
      });
    }
    const isInside = path === directory || path?.startsWith(`${directory}${sep}`) === true;
    if (isInside && (code === 'EROFS' || code === 'EACCES' || code === 'EPERM')) {
      return new Fr1Error('WORKSPACE_NOT_WRITABLE', `cannot write${place}: ${REASONS[code]}`, {
        hint: 'change the rights of that folder, or keep results elsewhere with --workspace DIR',
        cause: error,
      });
    }
  }
  return error;
}

const REASONS = {
  EROFS: 'the file system is read-only',
  EACCES: 'permission denied',
  EPERM: 'the system does not permit it',
} as const;
