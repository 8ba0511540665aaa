/**
 * Writes stages/<kind>/options.ts from stages/<kind>/schema.json, for every stage folder that has a schema.
 *
 * node scripts/generate-option-types.mjs            writes
 * node scripts/generate-option-types.mjs --check    fails when a file is stale
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { compile } from 'json-schema-to-typescript';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Formats text as `biome format` would format a file of that name. */
export function formatted(fileName, text) {
  const biome = path.join(
    path.dirname(createRequire(import.meta.url).resolve('@biomejs/biome/package.json')),
    'bin/biome',
  );
  return execFileSync(process.execPath, [biome, 'format', `--stdin-file-path=${fileName}`], {
    cwd: ROOT,
    input: text,
    encoding: 'utf8',
  });
}

/** The schema of the options that `run` sees: artifacts are resolved, defaults are filled in. */
function asSeenByRun(schema) {
  if (Array.isArray(schema)) return schema.map(asSeenByRun);
  if (schema === null || typeof schema !== 'object') return schema;
  if (Array.isArray(schema.artifact)) {
    return { ...(schema.description && { description: schema.description }), tsType: 'Artifact' };
  }
  const copy = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key === 'default' || key === 'examples' || key === 'enum' || key === 'const' || key === 'required') {
      copy[key] = value;
    } else if (key === 'properties') {
      copy[key] = Object.fromEntries(Object.entries(value).map(([name, property]) => [name, asSeenByRun(property)]));
    } else {
      copy[key] = asSeenByRun(value);
    }
  }
  if (schema.properties !== undefined) {
    const withDefault = Object.keys(schema.properties).filter((name) => schema.properties[name].default !== undefined);
    copy.required = [...new Set([...(schema.required ?? []), ...withDefault])];
  }
  return copy;
}

/** The text of options.ts for the stage folder of that name. */
export async function optionTypes(kind, schema) {
  const pascal = kind.replace(/(^|[^A-Za-z0-9])([A-Za-z0-9])/g, (_, _separator, letter) => letter.toUpperCase());
  const { title: _title, $schema: _draft, $id: _id, ...rest } = asSeenByRun(schema);
  const body = await compile(rest, `${pascal}Options`, {
    bannerComment: '',
    format: false,
    additionalProperties: false,
    ignoreMinAndMaxItems: true,
  });
  const lines = ['/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */'];
  if (/\bArtifact\b/.test(body)) lines.push(`import type { Artifact } from '../../src/run/stage-api.ts';`);
  return formatted(`stages/${kind}/options.ts`, `${lines.join('\n')}\n\n${body}`);
}

async function main(check) {
  const stagesFolder = path.join(ROOT, 'stages');
  let stale = 0;
  for (const entry of readdirSync(stagesFolder, { withFileTypes: true })) {
    const schemaFile = path.join(stagesFolder, entry.name, 'schema.json');
    if (!entry.isDirectory() || !existsSync(schemaFile)) continue;
    const target = path.join(stagesFolder, entry.name, 'options.ts');
    const text = await optionTypes(entry.name, JSON.parse(readFileSync(schemaFile, 'utf8')));
    if (existsSync(target) && readFileSync(target, 'utf8') === text) continue;
    if (check) {
      stale++;
      console.error(`stale: ${path.relative(ROOT, target)} (run: node scripts/generate-option-types.mjs)`);
    } else {
      writeFileSync(target, text);
      console.log(`wrote ${path.relative(ROOT, target)}`);
    }
  }
  if (stale > 0) process.exitCode = 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main(process.argv.includes('--check'));
