/** How many species are kept for datasets; split.ts says which, and why in families. */

export const FAMILY_SIZE = 4;
export const FAMILY_COUNT = 75;

/** Classes that a dataset can have, seen and unseen together. */
export const MAX_CLASSES = FAMILY_COUNT * FAMILY_SIZE;
