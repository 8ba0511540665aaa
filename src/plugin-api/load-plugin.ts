/**
 * Plugins by what a pipeline writes under `uses`: `./path` of a file or folder, or an npm package.
 *
 * TypeScript runs as it is: jiti compiles it on loading, on every Node that fr1 supports. A plugin's `fr1/plugin` is
 * always the one of the fr1 that runs it, whether or not fr1 is installed beside the plugin. Loading a plugin runs its
 * module, also for `fr1 check` and `fr1 plan`.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Jiti } from 'jiti';
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import { checkStage } from './check-stage.ts';
import { isInstalled, localCode, packageCode } from './plugin-code.ts';

/** Looked for in a plugin's folder, in this order; else the main entry of its package.json counts. */
const ENTRIES = ['stage.ts', 'stage.mts', 'stage.js', 'stage.mjs'];
const SOURCE = /\.(ts|mts|js|mjs)$/;
const PACKAGE = /^(@[a-z0-9~-][\w.~-]*\/)?[a-z0-9~-][\w.~-]*(\/[\w.~-]+)*$/;

export class PluginLoader {
  readonly #loaded = new Map<string, Promise<StageDefinition>>();
  #jiti: Promise<Jiti> | undefined;

  /**
   * The stage that `uses` names, seen from an absolute folder; `undefined` when it names neither a path nor a package
   * that is installed there. A module is loaded once.
   *
   * @throws PLUGIN_MISSING when the path does not exist, or the package is not installed
   * @throws PLUGIN_INVALID when its module cannot be loaded or exports no stage
   */
  async load(uses: string, folder: string): Promise<StageDefinition | undefined> {
    const place = isPath(uses) ? this.#locatePath(uses, folder) : await this.#locatePackage(uses, folder);
    if (place === undefined) return undefined;
    const known = this.#loaded.get(place.file) ?? this.#import(uses, place);
    this.#loaded.set(place.file, known);
    return known;
  }

  #locatePath(uses: string, folder: string): Place {
    const absolute = path.resolve(folder, uses);
    if (!existsSync(absolute)) {
      const near = ['.ts', '.js', '.mts', '.mjs'].find((ending) => existsSync(absolute + ending));
      throw new Fr1Error('PLUGIN_MISSING', `there is no file or folder "${uses}"`, {
        hint: near ? `did you mean "${uses}${near}"?` : `paths start at the pipeline file's folder: ${absolute}`,
      });
    }
    if (!statSync(absolute).isDirectory()) {
      if (SOURCE.test(absolute)) return { file: absolute };
      throw new Fr1Error('PLUGIN_INVALID', `"${uses}" is no module`, {
        hint: 'a plugin is a .ts, .mts, .js or .mjs file, or a folder; for a command in another language use `shell`',
      });
    }
    const entry = ENTRIES.map((name) => path.join(absolute, name)).find((file) => existsSync(file));
    const file = entry ?? mainOf(absolute);
    if (file !== undefined) return { file, folder: absolute };
    throw new Fr1Error('PLUGIN_INVALID', `the folder "${uses}" holds no stage`, {
      hint: `it needs ${ENTRIES.join(', ')}, or a package.json whose main entry exists`,
    });
  }

  async #locatePackage(uses: string, folder: string): Promise<Place | undefined> {
    if (!PACKAGE.test(uses) || isBuiltin(uses)) return undefined;
    const jiti = await this.#open();
    const url = jiti.esmResolve(uses, { parentURL: pathToFileURL(path.join(folder, 'pipeline.yaml')), try: true });
    if (url?.startsWith('file:')) return { file: fileURLToPath(url) };
    const isThere = existsSync(path.resolve(folder, uses));
    if (!isThere && !/[/@]|^fr1-/.test(uses)) return undefined;
    throw new Fr1Error('PLUGIN_MISSING', `the package "${uses}" is not installed`, {
      hint: isThere ? `did you mean the path "./${uses}"?` : `install it beside the pipeline: npm install ${uses}`,
    });
  }

  async #import(uses: string, { file, folder }: Place): Promise<StageDefinition> {
    const jiti = await this.#open();
    const cache = createRequire(import.meta.url).cache;
    const before = new Set(Object.keys(cache));
    let module: unknown;
    try {
      module = await jiti.import(file);
    } catch (cause) {
      throw new Fr1Error('PLUGIN_INVALID', `the plugin "${uses}" cannot be loaded: ${firstLine(cause)}`, {
        hint: hintFor(cause),
        cause,
      });
    }
    const loaded = Object.keys(cache).filter((each) => !before.has(each) && !isInstalled(each));
    // The next plugin that shares a module loads it again, so that its list is whole, too.
    for (const each of loaded) delete cache[each];
    const stage = checkStage((module as { default?: unknown }).default, uses);
    const code = isInstalled(file) ? packageCode(file) : await localCode(file, folder, loaded);
    return { ...stage, origin: { uses, file, code } };
  }

  #open(): Promise<Jiti> {
    this.#jiti ??= (async () => {
      const [{ createJiti }, api] = await Promise.all([import('jiti'), import('./plugin.ts')]);
      return createJiti(import.meta.url, {
        fsCache: false,
        interopDefault: false,
        virtualModules: { 'fr1/plugin': api },
      });
    })();
    return this.#jiti;
  }
}

interface Place {
  /** Absolute. */
  readonly file: string;
  /** The folder that `uses` names, where it names one. */
  readonly folder?: string;
}

function isPath(uses: string): boolean {
  return /^\.{1,2}([/\\]|$)/.test(uses) || path.isAbsolute(uses);
}

/** What package.json calls its main entry, as `exports` or `main`. */
function mainOf(folder: string): string | undefined {
  const manifest = path.join(folder, 'package.json');
  if (!existsSync(manifest)) return undefined;
  let entry: unknown;
  try {
    const { exports, main } = JSON.parse(readFileSync(manifest, 'utf8')) as { exports?: unknown; main?: unknown };
    entry = entryOf(exports) ?? main;
  } catch (cause) {
    throw new Fr1Error('PLUGIN_INVALID', `${manifest} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof entry !== 'string') return undefined;
  const file = path.resolve(folder, entry);
  return existsSync(file) ? file : undefined;
}

/** The path in `exports`: a text, or behind `.`, `import` and `default`. */
function entryOf(exports: unknown): string | undefined {
  if (typeof exports === 'string') return exports;
  if (exports === null || typeof exports !== 'object') return undefined;
  const { '.': root, import: imported, default: other } = exports as Readonly<Record<string, unknown>>;
  return entryOf(root ?? imported ?? other);
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split('\nRequire stack:')[0]!.trim();
}

function hintFor(error: unknown): string | undefined {
  const missing = /Cannot find (?:module|package) '([^'./][^']*)'/.exec(String(error))?.[1];
  if (missing === undefined) return undefined;
  if (missing.startsWith('fr1/')) return didYouMean(missing, ['fr1/plugin'], 'fr1 offers');
  return `install it where the plugin lies: npm install ${missing}`;
}
