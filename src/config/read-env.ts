/** `env` of a pipeline: a list of names, or a mapping of names to what is said about them. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { mapEntries } from './read-stage.ts';
import { childOf, type TreeNode } from './tree.ts';
import type { EnvDeclaration } from './types.ts';

export function readEnv(node: TreeNode | undefined, problems: Fr1Error[]): EnvDeclaration[] {
  const declared: EnvDeclaration[] = [];
  const add = (declaration: EnvDeclaration) => {
    const { name, position } = declaration;
    if (!/^[A-Za-z_]\w*$/.test(name)) {
      const message = `"${name}" is no name of an environment variable`;
      const hint = 'name variables only; their values stay in the environment';
      problems.push(new Fr1Error('VALUE_INVALID', message, { at: position, hint }));
    } else declared.push(declaration);
  };
  if (node?.kind === 'seq') {
    for (const item of node.items) {
      if (item.kind === 'scalar' && typeof item.value === 'string')
        add({ name: item.value, optional: false, position: item.at });
    }
  }
  for (const { key, keyAt, value } of mapEntries(node)) {
    const optional = childOf(value, 'optional');
    add({ name: key, optional: optional?.kind === 'scalar' && optional.value === true, position: keyAt });
  }
  return declared;
}
