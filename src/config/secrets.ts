/**
 * Secrets: values of the environment that a pipeline declares under `env` and names as `${{ env.NAME }}`.
 *
 * Options keep the name until just before a stage runs, so fingerprints, plans and records never hold a value. What a
 * stage says while it runs passes through `mask`, which also knows the forms that a value takes inside JSON, addresses
 * and base64.
 */
import { Fr1Error, Fr1Errors } from '../errors/fr1-error.ts';
import type { EnvDeclaration } from './types.ts';

const REFERENCE = /\$\{\{\s*env\s*\.\s*([A-Za-z_]\w*)\s*\}\}/g;
/** A shorter value would be found, and masked, in unrelated text. */
export const MIN_SECRET_LENGTH = 4;
const MASK = '***';

type Environment = Readonly<Record<string, string | undefined>>;

/** Names of the secrets in a text, in order, with repeats. */
export function secretsNamedIn(text: string): string[] {
  return [...text.matchAll(REFERENCE)].map(([, name]) => name!);
}

export class Secrets {
  readonly #values: ReadonlyMap<string, string>;
  readonly #pattern: RegExp | undefined;

  private constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
    const forms = [...new Set([...values.values()].flatMap(formsOf))].sort((a, b) => b.length - a.length);
    this.#pattern = forms.length === 0 ? undefined : new RegExp(forms.map(escaped).join('|'), 'g');
  }

  /** Reads the declared variables. @throws Fr1Errors with ENV_MISSING, ENV_TOO_SHORT; no message holds a value */
  static read(declared: readonly EnvDeclaration[], env: Environment): Secrets {
    const problems: Fr1Error[] = [];
    const values = new Map<string, string>();
    for (const { name, optional, position } of declared) {
      const value = env[name] ?? '';
      values.set(name, value);
      if (value === '' && !optional) {
        problems.push(
          new Fr1Error('ENV_MISSING', `the environment variable ${name} is not set`, {
            at: position,
            hint: `set it before you start fr1, e.g. ${name}=... fr1 run ..., or declare it as optional`,
          }),
        );
      } else if (value !== '' && value.length < MIN_SECRET_LENGTH) {
        problems.push(
          new Fr1Error('ENV_TOO_SHORT', `the environment variable ${name} is too short to be kept out of logs`, {
            at: position,
            hint: `a secret has at least ${MIN_SECRET_LENGTH} characters; put values that are none under vars`,
          }),
        );
      }
    }
    if (problems.length > 0) throw new Fr1Errors(problems);
    return new Secrets(values);
  }

  /** The same value with every `${{ env.NAME }}` in its texts replaced; for the options handed to `run`, nothing else. */
  reveal<T>(value: T): T {
    if (this.#values.size === 0) return value;
    return mapTexts(value, (text) => text.replace(REFERENCE, (_, name: string) => this.#values.get(name) ?? '')) as T;
  }

  /** The text without any secret. */
  maskText(text: string): string {
    return this.#pattern === undefined ? text : text.replace(this.#pattern, MASK);
  }

  /** The same value with secrets masked in all its texts and keys, for events and records. */
  mask<T>(value: T): T {
    return this.#pattern === undefined ? value : (mapTexts(value, (text) => this.maskText(text)) as T);
  }
}

/** The value, each of its lines, and how they look in JSON, in an address and in base64. */
function formsOf(value: string): string[] {
  const lines = value.split(/\r?\n/).filter((line) => line.length >= MIN_SECRET_LENGTH);
  const plain = [...new Set([value, value.trim(), ...lines])].filter((each) => each.length >= MIN_SECRET_LENGTH);
  return plain.flatMap((each) => [
    each,
    JSON.stringify(each).slice(1, -1),
    encodeURIComponent(each),
    Buffer.from(each).toString('base64').replace(/=+$/, ''),
  ]);
}

function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, change));
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [change(key), mapTexts(item, change)]));
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
