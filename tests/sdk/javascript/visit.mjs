// The server, the SDK, and what both majors of it call by names of their own.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { Receiver } from "./receiver.mjs";

const directory = join(process.env.TOUR_SDK, "node_modules");
const entry = createRequire(join(directory, "index.js")).resolve("svix");
const loaded = await import(pathToFileURL(entry));
// The one before is CommonJS.
const sdk = loaded.default ?? loaded;
export const { version } = JSON.parse(readFileSync(join(directory, "svix", "package.json")));
export const isNewest = Number(version.split(".")[0]) >= 2;

export const name = process.env.TOUR_NAME;
export const connect = (token) => new sdk.Svix(token, { serverUrl: process.env.TOUR_URL });
export const svix = connect(process.env.TOUR_TOKEN);
export const receiver = await Receiver.start();

/** The names that changed between the majors. */
export const types = isNewest ? "eventTypes" : "filterTypes";
export const replace = (api) => (isNewest ? api.upsert : api.update).bind(api);

export const verifies = (secret, delivery, body = delivery.body) => {
  try {
    new sdk.Webhook(secret).verify(body, delivery.headers);
    return true;
  } catch (error) {
    if (!(error instanceof sdk.WebhookVerificationError)) throw error;
    return false;
  }
};

/** Without the SDK, for what it does not know. */
export async function patchPlainly(path, body) {
  const headers = { authorization: `Bearer ${process.env.TOUR_TOKEN}`, "content-type": "application/json" };
  const answer = await fetch(process.env.TOUR_URL + path, { method: "PATCH", headers, body: JSON.stringify(body) });
  if (answer.status !== 200) throw new Error(`${path}: ${answer.status}: ${await answer.text()}`);
}
