import { describe, expect, it } from 'vitest';
import { explainDiskError } from './disk-error.ts';

const fault = (code: string, path: string, syscall = 'write') =>
  Object.assign(new Error(`${code}: ${path}`), { code, path, syscall });

describe('explainDiskError()', () => {
  it.each(['ENOSPC', 'EDQUOT'])('tells %s as a full disk, also behind other errors', (code) => {
    const cause = fault(code, '/w/store/x');
    const outer = new Error('cannot save', { cause });
    expect(explainDiskError(outer, '/w')).toMatchObject({
      code: 'DISK_FULL',
      message: expect.stringMatching(/no room .* \/w\/store\/x/),
      cause: outer,
    });
  });

  it.each(['EROFS', 'EACCES', 'EPERM'])('tells %s inside the workspace, and nowhere else', (code) => {
    expect(explainDiskError(fault(code, '/w/runs'), '/w')).toMatchObject({ code: 'WORKSPACE_NOT_WRITABLE' });
    const elsewhere = fault(code, '/wide/runs');
    expect(explainDiskError(elsewhere, '/w')).toBe(elsewhere);
  });

  it('leaves a system out of file watchers, and foreign errors, as they are', () => {
    for (const error of [fault('ENOSPC', '/w', 'watch'), new Error('x'), 'text', undefined]) {
      expect(explainDiskError(error, '/w')).toBe(error);
    }
  });
});
