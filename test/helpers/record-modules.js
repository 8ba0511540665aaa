/** Loaded by `node --import`: appends the URL of every module that is loaded to the file that FR1_TEST_MODULES names. */
import { register } from 'node:module';

const hook = `
  import { appendFileSync } from 'node:fs';
  export function load(url, context, next) {
    appendFileSync(process.env.FR1_TEST_MODULES, url + '\\n');
    return next(url, context);
  }`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);
