// What a tour checks with. The first thing that is wrong ends it.

import { isDeepStrictEqual } from "node:util";

let checks = 0;

/** Of objects: each of their fields. */
export function equal(what, found, expected) {
  checks += 1;
  if (isDeepStrictEqual(found, expected)) return;
  throw new Error(`${what}: ${JSON.stringify(found)} is not ${JSON.stringify(expected)}`);
}

export function matches(what, found, pattern) {
  checks += 1;
  if (typeof found === "string" && pattern.test(found)) return;
  throw new Error(`${what}: ${JSON.stringify(found)} does not match ${pattern}`);
}

export function between(what, found, least, most) {
  checks += 1;
  if (Number.isInteger(found) && found >= least && found <= most) return;
  throw new Error(`${what}: ${found} is not ${least} to ${most}`);
}

/** A time that the SDK could parse. */
export function time(what, found) {
  checks += 1;
  if (found instanceof Date && found.getUTCFullYear() > 2000) return;
  throw new Error(`${what}: ${found} is no time`);
}

/** A list that ends with this page. Its iterators are the ids of its first and last item, or begin with `prefix`. */
export function lastPage(what, { data, iterator, prevIterator, done }, prefix) {
  equal(`${what}: done`, done, true);
  if (prefix) {
    matches(`${what}: iterator`, iterator, new RegExp(`^${prefix}`));
    matches(`${what}: prevIterator`, prevIterator, new RegExp(`^-${prefix}`));
  } else {
    equal(`${what}: iterator`, iterator, data.at(-1)?.id);
    equal(`${what}: prevIterator`, prevIterator, `-${data[0]?.id}`);
  }
}

/** The call must be refused with this status; gives the body of the answer as the SDK parsed it. */
export async function refused(what, status, call) {
  checks += 1;
  let answer;
  try {
    answer = await call();
  } catch (error) {
    if (error.code !== status) throw new Error(`${what}: not ${status} but ${error.code}: ${error.message}`);
    return error.body;
  }
  throw new Error(`${what}: not refused: ${JSON.stringify(answer)}`);
}

/** The same of an error with a code and a text. */
export async function refusedAs(what, status, code, call) {
  const body = await refused(what, status, call);
  equal(`${what}: code`, body.code, code);
  matches(`${what}: detail`, body.detail, /\S/);
}

export function count() {
  return checks;
}
