/** The fields of a chat completion that not every endpoint takes, and what to do when one is refused. */
import type { RewriteOptions } from './options.ts';
import type { TeacherCall } from './teacher.ts';

type TeacherOptions = RewriteOptions['teacher'];

/** A field that an endpoint can do without. */
export type OptionalField = NonNullable<TeacherOptions['leaveOut']>[number];

export interface RequestForm {
  /** The field that bounds the length of an answer. */
  readonly tokenLimit: NonNullable<TeacherOptions['tokenLimit']>;
  readonly leaveOut: readonly OptionalField[];
}

export const USUAL_FORM: RequestForm = { tokenLimit: 'max_tokens', leaveOut: [] };

export function formOf({ tokenLimit, leaveOut }: TeacherOptions): RequestForm {
  return { tokenLimit: tokenLimit ?? USUAL_FORM.tokenLimit, leaveOut: leaveOut ?? USUAL_FORM.leaveOut };
}

export function fieldsOf(
  { tokenLimit, leaveOut }: RequestForm,
  { maxNewTokens, temperature, seed }: Pick<TeacherCall, 'maxNewTokens' | 'temperature' | 'seed'>,
) {
  const has = (field: OptionalField) => !leaveOut.includes(field);
  return {
    ...(tokenLimit !== 'none' && { [tokenLimit]: maxNewTokens }),
    ...(has('stream_options') && { stream_options: { include_usage: true } }),
    ...(has('temperature') && { temperature }),
    ...(has('seed') && { seed }),
  };
}

type RefusableField = OptionalField | Exclude<RequestForm['tokenLimit'], 'none'>;

const REMEDIES: Readonly<Record<RefusableField, string>> = {
  max_tokens:
    'set teacher.tokenLimit: max_completion_tokens, the name that newer servers take, or none to send no limit',
  max_completion_tokens:
    'set teacher.tokenLimit: max_tokens, the name that most servers take, or none to send no limit',
  stream_options:
    'set teacher.leaveOut: [stream_options]; tokens and cost are then counted where the server tells them',
  temperature: 'set teacher.leaveOut: [temperature]; the server then samples at its own',
  seed: 'set teacher.leaveOut: [seed]; the server then draws its own',
};

const REFUSAL =
  /unsupported|unknown|unrecogni[sz]ed|unexpected|extra (?:inputs|fields)|additional propert|not (?:be )?(?:supported|permitted|allowed|recogni[sz]ed|accepted)|does not (?:support|accept)|no longer/i;

/**
 * What to set when a status 400 or 422 says that a field is unwanted; null when it says something else, such as a limit that
 * is too high.
 *
 * @param parameter the field that the server blames beside its message, if it tells
 */
export function remedyFor(message: string, parameter: string | null | undefined): string | null {
  if (!REFUSAL.test(message)) return null;
  const fields = Object.keys(REMEDIES) as RefusableField[];
  const blamed = fields.find((field) => parameter === field) ?? firstNamed(fields, message);
  return blamed === undefined ? null : REMEDIES[blamed];
}

/** The field that a message names first: what it recommends instead comes later. Plain words count where they are quoted. */
function firstNamed(fields: readonly RefusableField[], message: string): RefusableField | undefined {
  const places = fields.flatMap((field) => {
    const name = field.includes('_') ? new RegExp(`\\b${field}\\b`) : new RegExp(`(?<=['"\`.])${field}\\b`);
    const at = message.search(name);
    return at < 0 ? [] : [{ field, at }];
  });
  return places.sort((a, b) => a.at - b.at)[0]?.field;
}
