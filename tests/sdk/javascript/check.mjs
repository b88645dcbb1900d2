// What a tour checks with. The first thing that is wrong ends it.

import { isDeepStrictEqual } from "node:util";

let checks = 0;

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

/** A time that the SDK could parse. */
export function time(what, found) {
  checks += 1;
  if (found instanceof Date && found.getUTCFullYear() > 2000) return;
  throw new Error(`${what}: ${found} is no time`);
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
