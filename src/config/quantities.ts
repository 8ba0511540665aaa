/** Durations and sizes as users write them: `90s`, `5 min`, `2h`; `512MiB`, `20 GiB`. */

const MILLISECONDS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  sec: 1_000,
  min: 60_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

const BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

export const DURATION_HINT = 'write a number and a unit, e.g. 500ms, 90s, 30min, 2h, 1d';
export const SIZE_HINT = 'write a number and a unit, e.g. 512MiB, 20GiB';

/** Milliseconds, or `undefined` where the text is no duration. `1h30min` is the sum of its parts. */
export function parseDuration(text: string): number | undefined {
  const parts = [...text.matchAll(/\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*/gy)];
  if (parts.length === 0 || parts.reduce((sum, [part]) => sum + part.length, 0) !== text.length) return undefined;
  const values = parts.map(([, number, unit]) => Number(number) * (MILLISECONDS[unit!] ?? Number.NaN));
  const sum = Math.round(values.reduce((total, value) => total + value, 0));
  return Number.isFinite(sum) ? sum : undefined;
}

/** Bytes, or `undefined` where the text is no size. */
export function parseSize(text: string): number | undefined {
  const [, number, unit = ''] = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*$/.exec(text) ?? [];
  if (number === undefined) return undefined;
  const known = Object.keys(BYTES).find((each) => each.toLowerCase() === unit.toLowerCase());
  return known === undefined ? undefined : Math.round(Number(number) * BYTES[known]!);
}
