/** The source sharegpt: chats in the form of LLaMA-Factory, such as the first-stage data of Fine-R1. */
import path from 'node:path';
import { isRecord, isStrings, type RowProblem, readJsonLines } from '../../src/artifacts/json-lines.ts';
import { readText } from '../../src/artifacts/read-text.ts';
import { RowProblems } from '../../src/artifacts/row-problems.ts';
import { writeSftData } from '../../src/artifacts/rows.ts';
import type { SftRow } from '../../src/artifacts/types.ts';
import { filesBelow } from '../../src/datasets/files-below.ts';
import { ImageLooker } from '../../src/datasets/image-looker.ts';
import { ImageStore, inParallel } from '../../src/datasets/image-store.ts';
import type { ImageContent } from '../../src/datasets/source.ts';
import { Fr1Error, type SourcePosition } from '../../src/errors/fr1-error.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import { type Counts, NO_COUNTS } from './counts.ts';
import { placeImages } from './image-places.ts';
import type { DatasetOptions } from './options.ts';
import { writeNoTests, writeNoTraining, writeNoTriplets } from './outputs.ts';
import { hashesOfTests } from './test-hashes.ts';

/** A chat with its image, before that is copied. */
interface ListedChat {
  readonly id: string;
  readonly messages: SftRow['messages'];
  readonly content: ImageContent;
  readonly at?: SourcePosition;
}

const READS_AT_ONCE = 8;

/** Roles by the names that either form of the data uses. */
const ROLES: Readonly<Record<string, SftRow['messages'][number]['role']>> = {
  system: 'system',
  user: 'user',
  human: 'user',
  assistant: 'assistant',
  gpt: 'assistant',
};

/** Files of LLaMA-Factory that hold no chats. */
const REGISTRATION = 'dataset_info.json';

/** All chats of a file or folder, images where they say. @throws DATA_UNREADABLE, DATA_ROW_INVALID, DATA_INSUFFICIENT */
export async function readListedChats(root: string): Promise<ListedChat[]> {
  const files = filesBelow(root, new Set(['.json', '.jsonl'])).filter((file) => path.basename(file) !== REGISTRATION);
  const listed: ListedChat[] = [];
  for (const file of files) listed.push(...(await readChats(file)));
  if (listed.length === 0) throw new Fr1Error('DATA_INSUFFICIENT', `${root} holds no chats`);
  return listed;
}

/** Fills `chats`. */
export async function importChats(context: StageContext<DatasetOptions>): Promise<Counts> {
  const listed = await readListedChats(context.options.root!.path);
  const { images: chats, missing } = placeImages(context, listed);
  const output = context.outputs['chats']!;
  const store = new ImageStore(output);
  const looker = new ImageLooker(context.options.damagedImages);
  const tested = await hashesOfTests(context);
  const rows: (SftRow | null)[] = new Array(chats.length);
  let [done, leaks] = [0, 0];
  await inParallel(chats, READS_AT_ONCE, async (chat, index) => {
    context.signal.throwIfAborted();
    const seen = await looker.look(chat);
    const isTested = seen !== null && tested.has(seen.hash);
    if (isTested) leaks++;
    rows[index] = seen === null || isTested ? null : { messages: chat.messages, images: [seen.name] };
    if (seen !== null && !isTested) await store.add(seen);
    done++;
    if (done % 25 === 0 || done === chats.length) context.progress({ done, total: chats.length, unit: 'chats' });
  });
  looker.finish(context.warn);
  const kept = rows.filter((row) => row !== null);
  if (leaks > 0) context.warn(`${leaks} chats are about test images; none of them is used`);
  await writeSftData(output, kept);
  await writeNoTraining(context, 'sharegpt', 'object');
  await writeNoTests(context, 'sharegpt', 'object');
  await writeNoTriplets(context, 'sharegpt', 'object');
  return { ...NO_COUNTS, chats: kept.length, leftOut: missing + leaks + looker.leftOut };
}

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID naming file and chat, counted from 0 */
async function readChats(file: string): Promise<ListedChat[]> {
  if (file.endsWith('.jsonl')) {
    return readJsonLines<ListedChat>(file, (value, line) => {
      const chat = chatOf(value, file, `${path.parse(file).name}-${line}`);
      return 'problem' in chat ? chat : { ...chat, at: { file, line, col: 1 } };
    });
  }
  const text = await readText(file);
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch (cause) {
    throw new Fr1Error('DATA_UNREADABLE', `${file} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (!Array.isArray(values)) throw new Fr1Error('DATA_UNREADABLE', `${file} does not hold a list of chats`);
  const problems = new RowProblems();
  const chats = values.flatMap((value: unknown, index): ListedChat[] => {
    const chat = chatOf(value, file, `${path.parse(file).name}-${index}`);
    if (!('problem' in chat)) return [chat];
    problems.add(new Fr1Error('DATA_ROW_INVALID', `${file}: chat ${index}: ${chat.problem}`));
    return [];
  });
  problems.throwIfAny();
  return chats;
}

function chatOf(value: unknown, file: string, id: string): ListedChat | RowProblem {
  if (!isRecord(value)) return { problem: 'it is not an object' };
  const turns = value['messages'] ?? value['conversations'];
  if (!Array.isArray(turns) || turns.length === 0) return { problem: 'it has neither "messages" nor "conversations"' };
  const messages: SftRow['messages'][number][] = [];
  const hasOwnSystem = isRecord(turns[0]) && ROLES[String(turns[0]['role'] ?? turns[0]['from'])] === 'system';
  if (typeof value['system'] === 'string' && value['system'] !== '' && !hasOwnSystem) {
    messages.push({ role: 'system', content: value['system'] });
  }
  for (const turn of turns as unknown[]) {
    const role = isRecord(turn) ? ROLES[String(turn['role'] ?? turn['from'])] : undefined;
    const content = isRecord(turn) ? (turn['content'] ?? turn['value']) : undefined;
    if (role === undefined || typeof content !== 'string') return { problem: 'a message lacks a known role or a text' };
    messages.push({ role, content });
  }
  const problem = orderProblem(messages);
  if (problem !== null) return { problem };
  const images = value['images'] ?? (typeof value['image'] === 'string' ? [value['image']] : undefined);
  if (!isStrings(images)) return { problem: '"images" is not a list of paths' };
  const marks = messages.reduce((sum, { content }) => sum + content.split('<image>').length - 1, 0);
  if (images.length !== 1 || marks !== 1) {
    return { problem: `it has ${images.length} images and ${marks} <image> marks; chats about one image are read` };
  }
  const name = images[0]!;
  return { id, messages, content: { kind: 'file', path: path.resolve(path.dirname(file), name), name } };
}

/** What keeps messages from being learnt from; null for a system text, if any, a question about the image, and its answer. */
function orderProblem(messages: SftRow['messages']): string | null {
  if (messages.slice(1).some(({ role }) => role === 'system')) return 'a message of the system is not the first';
  if (messages.at(-1)!.role !== 'assistant') return 'its last message is not by the assistant';
  const answers = messages.filter(({ role }) => role === 'assistant').length;
  if (answers > 1) return `it has ${answers} answers; chats with one are learnt`;
  const marked = messages.find(({ role, content }) => role !== 'user' && content.includes('<image>'));
  return marked ? `its <image> mark is in a message of the ${marked.role}, not of the user` : null;
}
