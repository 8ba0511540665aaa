/** What becomes of a row: a chat, or a reason why there is none. */
import type { ImageRow, SftRow } from '../../src/artifacts/types.ts';

/** A line of rejected.jsonl. */
export interface Reject {
  readonly id: string;
  readonly label: string;
  readonly reason: string;
}

export type Outcome = SftRow | Reject;

export function chat(row: Pick<ImageRow, 'image'>, prompt: string, response: string): SftRow {
  return {
    messages: [
      { role: 'user', content: `<image>${prompt}` },
      { role: 'assistant', content: response },
    ],
    images: [row.image],
  };
}
