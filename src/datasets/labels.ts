/**
 * Names of classes as the chats and evaluation files of Fine-R1 write them: words with blanks and never `_`, in title case, flowers
 * in lower case. Training, reward and evaluation compare labels as texts, so a class has one name everywhere.
 */

/** `american_pit_bull_terrier` -> `American Pit Bull Terrier`; letters other than the first of a word stay as they are. */
export function titleCase(name: string): string {
  return words(name)
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join(' ');
}

/** Single blanks between words, `_` counting as a blank. */
export function plainName(name: string): string {
  return words(name).join(' ');
}

function words(name: string): string[] {
  return name.split(/[\s_]+/).filter((word) => word !== '');
}

/** `001.Black_footed_Albatross` -> `Black Footed Albatross`. */
export function birdLabel(folder: string): string {
  return titleCase(folder.replace(/^\d+\./, ''));
}

/** `n02089078-black-and-tan_coonhound` -> `Black And Tan Coonhound`; dogs have no hyphens. */
export function dogLabel(folder: string): string {
  return titleCase(folder.replace(/^n\d+-/, '').replaceAll('-', ' '));
}

/** `707-320` -> `Boeing 707-320`, `A310` -> `Airbus A310`; other variants keep their name. */
export function aircraftLabel(variant: string): string {
  if (/^7\d7-/.test(variant)) return `Boeing ${variant}`;
  if (/^A3\d\d/.test(variant)) return `Airbus ${variant}`;
  return variant;
}

export type LabelStyle = 'as-written' | 'title' | 'lower';

/** The name of a class that a user's folder or file gives. `_` becomes a blank in every style. */
export function styledLabel(name: string, style: LabelStyle): string {
  if (style === 'title') return titleCase(name);
  const plain = plainName(name);
  return style === 'lower' ? plain.toLowerCase() : plain;
}
