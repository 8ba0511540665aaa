/** Sizes of procedural-birds where none are given; other sources take theirs from the data. */
export const DEFAULTS = { seenClasses: 36, unseenClasses: 24, sftShots: 2, rlShots: 8, testImages: 400 } as const;
