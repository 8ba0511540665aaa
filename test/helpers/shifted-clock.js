/**
 * Preloaded into a process, moves its clock by FR1_TEST_CLOCK_SHIFT_MS when it has run for FR1_TEST_CLOCK_JUMP_AFTER_MS,
 * as a time server may do. The clock that only counts time (performance.now) and that of the file system go on as ever.
 */
const RealDate = globalThis.Date;
const shiftMs = Number(process.env.FR1_TEST_CLOCK_SHIFT_MS ?? 0);
const jumpAt = RealDate.now() + Number(process.env.FR1_TEST_CLOCK_JUMP_AFTER_MS ?? 0);

function now() {
  const real = RealDate.now();
  return real >= jumpAt ? real + shiftMs : real;
}

globalThis.Date = class extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(now());
    else super(...args);
  }

  static now() {
    return now();
  }
};
