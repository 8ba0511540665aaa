/** What every source tells about what it made. */

/** The stage's metrics. */
export interface Counts {
  readonly seenClasses: number;
  readonly unseenClasses: number;
  readonly sftImages: number;
  readonly rlImages: number;
  readonly seenTestImages: number;
  readonly unseenTestImages: number;
  readonly chats: number;
  readonly triplets: number;
  /** Images or rows that were left out: missing files, repeated images, training images that are test images too. */
  readonly leftOut: number;
}

export const NO_COUNTS: Counts = {
  seenClasses: 0,
  unseenClasses: 0,
  sftImages: 0,
  rlImages: 0,
  seenTestImages: 0,
  unseenTestImages: 0,
  chats: 0,
  triplets: 0,
  leftOut: 0,
};
