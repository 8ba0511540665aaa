/** docs/errors.md as text, made from the catalogue. */
import type { CatalogueEntry } from './catalogue.ts';

const HEADER = `<!-- Generated from src/errors/catalogue.ts by scripts/generate-docs.mjs. -->

# Errors

Every error that fr1 tells has a code. The codes are permanent: scripts may rely on them.

\`\`\`
pipelines/tapo.yaml:41:13  error[STAGE_UNKNOWN_NEED]
  stage "tapo" needs "sft_7b", but no stage has that name
   41 |     needs: [sft_7b]
      |             ^^^^^^
  hint: did you mean "sft-7b"?
\`\`\`

The first line tells the place (\`command line\` for arguments) and the code, then follow what is wrong, the line itself and
what can be done. Problems of a pipeline are collected and told together. \`FR1_DEBUG=1\` adds stack traces and causes.

Exit codes of the command: 0 done, 1 a stage or an expectation failed, 2 the pipeline, its data or the arguments are wrong,
130 interrupted.

| Code | Exit | When |
| --- | --- | --- |
`;

/** One row per code, sorted by code. */
export function errorDocs(catalogue: Readonly<Record<string, CatalogueEntry>>): string {
  const rows = Object.entries(catalogue)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, { exit, explanation }]) => `| \`${code}\` | ${exit} | ${explanation.replaceAll('|', '\\|')} |\n`);
  return HEADER + rows.join('');
}
