/** Has every row written by the teacher and sorts what comes back. The teachers have files of their own. */
import path from 'node:path';
import { writeJsonLines } from '../../src/artifacts/json-lines.ts';
import { type Dataset, linkImages, readImageData, writeSftData } from '../../src/artifacts/rows.ts';
import type { ImageRow, SftRow } from '../../src/artifacts/types.ts';
import { openModelFolder } from '../../src/engine/adapters/model-folder.ts';
import { openTextEmbedder } from '../../src/engine/embedding/text-embedder.ts';
import { openProcessor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { CONCEPT_TEMPERATURE } from '../../src/methods/concept-selection.ts';
import { sourceOfLease } from '../../src/pool/session-source.ts';
import type { ReportTable, StageContext, StageResult } from '../../src/run/stage-api.ts';
import { requireStageMemory } from '../memory.ts';
import { writeFromAttributes } from './attributes.ts';
import { CALLS_FILE, CallLog } from './call-log.ts';
import { type Captioned, type ConceptSelector, conceptSelector } from './concepts.ts';
import { constructThoughts, type Written } from './construct.ts';
import { DEFAULTS, TEACHER_DEFAULTS } from './defaults.ts';
import { informationSelector } from './informative-concepts.ts';
import { TEACHER_KNOBS, teacherPlan } from './memory.ts';
import { nativeTeacher } from './native-teacher.ts';
import type { RewriteOptions } from './options.ts';
import { chat, type Outcome, type Reject } from './outcome.ts';
import { formOf } from './request-fields.ts';
import type { Teacher } from './teacher.ts';

const SHOWN_REJECTS = 10;

const REQUEST_DEFAULTS = { concurrency: 8, timeoutSeconds: 60, retries: 8 } as const;

type Context = StageContext<RewriteOptions>;
type Metrics = Record<string, number>;

export async function runRewrite(context: StageContext<RewriteOptions>): Promise<StageResult> {
  const data = await readImageData(context.options.data.path);
  if (data.rows.length === 0) throw new Fr1Error('DATA_INSUFFICIENT', 'the data has no rows to write about');
  const { outcomes, metrics, tables } =
    context.options.teacher.kind === 'attributes'
      ? fromAttributes(context, data)
      : await fromTeacher(context, data, context.options.teacher.kind);
  const accepted = outcomes.filter((one): one is SftRow => !('reason' in one));
  const rejects = outcomes.filter((one): one is Reject => 'reason' in one);
  if (accepted.length === 0) {
    throw new Fr1Error('DATA_INSUFFICIENT', `none of the ${data.rows.length} rows was accepted`, {
      hint: `row "${rejects[0]!.id}": ${rejects[0]!.reason}`,
    });
  }
  const output = context.outputs['data']!;
  const images = accepted.flatMap((one) => one.images);
  await linkImages(context.options.data.path, output, images, context.signal);
  await writeSftData(output, accepted);
  await writeJsonLines(path.join(output, 'rejected.jsonl'), rejects);
  if (rejects.length > 0) context.warn(`${rejects.length} of ${data.rows.length} rows were rejected`);
  const all = { accepted: accepted.length, rejected: rejects.length, ...metrics };
  return {
    metrics: Object.fromEntries(Object.entries(all).map(([name, value]) => [name, { value }])),
    tables: [...tables, ...(rejects.length === 0 ? [] : [rejectTable(rejects)])],
  };
}

interface Results {
  readonly outcomes: readonly Outcome[];
  readonly metrics: Metrics;
  readonly tables: readonly ReportTable[];
}

function fromAttributes(context: Context, { info, rows }: Dataset<ImageRow>): Results {
  context.signal.throwIfAborted();
  const outcomes = writeFromAttributes(rows, info.classes, context.options, context.seed);
  context.progress({ done: rows.length, total: rows.length, unit: 'rows' });
  return { outcomes, metrics: {}, tables: [] };
}

async function fromTeacher(
  context: Context,
  { info, rows }: Dataset<ImageRow>,
  kind: 'openai' | 'native',
): Promise<Results> {
  const { options, seed, signal } = context;
  const log = await CallLog.open(context.state, options.reuse?.path);
  if (log.size > 0) context.log(`${log.size} answers of the teacher are known from before`);
  const counts = { retries: 0 };
  const teacher = await (kind === 'native' ? openNative(context, { info, rows }) : openEndpoint(context, counts));
  try {
    const { maxNewTokens, temperature } = { ...TEACHER_DEFAULTS, ...options.teacher };
    const written = await constructThoughts(
      teacher,
      log,
      { ...DEFAULTS, ...options, maxNewTokens, temperature, seed },
      {
        rows,
        folder: options.data.path,
        superCategory: info.superCategory,
        selectorOf: (images) => selectorFor(context, images),
        signal,
        onProgress: (done, total, note) => context.progress({ done, total, unit: 'steps', note }),
      },
    );
    await writeJsonLines(path.join(context.outputs['data']!, CALLS_FILE), log.used);
    const { answers, remembered, inputTokens, outputTokens } = log.tally;
    const { inputPrice, outputPrice } = options.requests;
    const cost = (inputTokens * (inputPrice ?? 0) + outputTokens * (outputPrice ?? 0)) / 1e6;
    const tellsTokens = inputTokens + outputTokens > 0;
    const isPriced = tellsTokens && (inputPrice !== undefined || outputPrice !== undefined);
    if (!tellsTokens) context.warn('the server tells no numbers of tokens: tokens and cost are not known');
    const resampled = written.reduce((sum, { refusals }) => sum + refusals.length, 0);
    return {
      outcomes: written.map(outcomeOf),
      metrics: {
        resampled,
        calls: answers,
        rememberedCalls: remembered,
        ...(tellsTokens && { inputTokens, outputTokens }),
        ...(isPriced && { cost }),
      },
      tables: [
        {
          title: 'Teacher',
          columns: ['answers', 'known from before', 'repeated requests', 'tokens in', 'tokens out', 'cost'],
          rows: [
            [
              ...[answers, remembered, counts.retries].map(String),
              ...[inputTokens, outputTokens].map((tokens) => (tellsTokens ? String(tokens) : '-')),
              isPriced ? cost.toFixed(4) : '-',
            ],
          ],
        },
        ...refusalTable(written),
      ],
    };
  } finally {
    await teacher.release();
  }
}

async function selectorFor({ options, signal, log }: Context, images: readonly Captioned[]): Promise<ConceptSelector> {
  const {
    by,
    model,
    hub,
    revision = 'main',
    temperature = CONCEPT_TEMPERATURE,
  } = options.conceptSelection ?? { by: 'words' };
  if (by === 'words') return conceptSelector(images);
  await using embedder = await openTextEmbedder({ model, hub, revision });
  log(`concepts are selected with ${embedder.name}`);
  return await informationSelector(images, embedder, { temperature, signal });
}

async function openNative(context: Context, data: Dataset<ImageRow>): Promise<Teacher> {
  const { options, lease, signal } = context;
  const source = sourceOfLease(lease);
  const checkpoint = options.teacher.checkpoint!;
  if (!source.memory) {
    const { base } = openModelFolder(checkpoint.path);
    const plan = await teacherPlan(checkpoint.path, options.data.path, data, options, await openProcessor(base.dir));
    requireStageMemory(context, 'this teacher', plan, TEACHER_KNOBS);
  }
  return nativeTeacher(source, checkpoint, signal);
}

async function openEndpoint({ options, log }: Context, counts: { retries: number }): Promise<Teacher> {
  const { baseUrl, model, apiKeyEnv } = { ...TEACHER_DEFAULTS, ...options.teacher };
  const { concurrency, perMinute, timeoutSeconds, retries } = { ...REQUEST_DEFAULTS, ...options.requests };
  const { openAITeacher } = await import('./openai-teacher.ts');
  return openAITeacher({
    baseUrl,
    model: model!,
    apiKeyEnv,
    form: formOf(options.teacher),
    concurrency,
    perMinute,
    timeoutMs: timeoutSeconds * 1000,
    retries,
    onRetry(reason) {
      counts.retries++;
      // The first tells what is going on; the others are counted.
      if (counts.retries === 1) log(`a request is repeated: ${reason}`);
    },
  });
}

function outcomeOf(written: Written): Outcome {
  const { row } = written;
  if ('reason' in written) return { id: row.id, label: row.label, reason: written.reason };
  return chat(row, row.question, written.response);
}

function rejectTable(rejects: readonly Reject[]): ReportTable {
  return {
    title: 'Rejected rows',
    columns: ['row', 'label', 'reason'],
    rows: rejects.slice(0, SHOWN_REJECTS).map(({ id, label, reason }) => [id, label, reason]),
    notes: rejects.length > SHOWN_REJECTS ? [`and ${rejects.length - SHOWN_REJECTS} more in rejected.jsonl`] : [],
  };
}

/** Why thoughts were written again, most frequent first. */
function refusalTable(written: readonly Written[]): ReportTable[] {
  const counts = new Map<string, number>();
  for (const reason of written.flatMap(({ refusals }) => refusals)) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  if (counts.size === 0) return [];
  const rows = [...counts].sort((a, b) => b[1] - a[1]).map(([reason, count]) => [reason, String(count)]);
  return [{ title: 'Thoughts that were written again', columns: ['reason', 'times'], rows }];
}
