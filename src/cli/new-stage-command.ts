/** `fr1 new stage`: the folder of a plugin, with types, tests, an example and what a package needs. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import { packagePath } from '../run/package-files.ts';
import { type CliIo, shortPath, writeLines } from './io.ts';
import { fr1Version } from './main.ts';

/** The name that the template's stage has. */
const TEMPLATE_KIND = 'my-stage';

/** @param name path of the folder to make; its last part is the name of the kind */
export async function newStageCommand(name: string, io: CliIo): Promise<number> {
  const folder = path.resolve(io.cwd, name);
  const kind = path.basename(folder);
  if (!/^[a-z][a-z0-9-]*$/.test(kind)) {
    throw new Fr1Error('CLI_ARGUMENTS', `"${kind}" cannot be the name of a stage`, {
      hint: 'a name begins with a letter and has only a-z, 0-9 and "-", e.g. crop-images',
    });
  }
  if (existsSync(folder) && (await readdir(folder)).length > 0) {
    throw new Fr1Error('CLI_ARGUMENTS', `${name} exists already`, { hint: 'name a folder that does not exist' });
  }
  const template = packagePath('templates/stage');
  const files = (await readdir(template, { recursive: true, withFileTypes: true })).filter((each) => each.isFile());
  const written: string[] = [];
  for (const { name: file, parentPath } of files) {
    const relative = path.relative(template, path.join(parentPath, file));
    const text = await readFile(path.join(template, relative), 'utf8');
    const target = path.join(folder, relative);
    await mkdir(path.dirname(target), { recursive: true });
    await writeFile(target, text.replaceAll(TEMPLATE_KIND, kind).replaceAll('FR1_VERSION', fr1Version()));
    written.push(relative.split(path.sep).join('/'));
  }
  const shown = shortPath(io)(folder);
  writeLines(io.stdout, [
    `wrote ${shown}: ${written.sort().join(', ')}`,
    '',
    `  cd ${shown}`,
    '  npx fr1 run example/pipeline.yaml     runs it',
    '  npm test                              tests it',
    '  npm run check                         checks its types',
    '',
    `in a pipeline here: uses: ./${path.relative(io.cwd, folder).split(path.sep).join('/')}`,
  ]);
  return 0;
}
