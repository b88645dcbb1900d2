// A tour of Fanfare with the official JavaScript SDK, unmodified.
//
// TOUR_SDK    directory where `svix` is installed
// TOUR_URL    the server
// TOUR_TOKEN  of the organization
// TOUR_NAME   begins all names of this tour: others run beside it

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { count, equal, matches, refused, refusedAs, time } from "./check.mjs";
import { Receiver, asSoonAs } from "./receiver.mjs";

const directory = join(process.env.TOUR_SDK, "node_modules");
const entry = createRequire(join(directory, "index.js")).resolve("svix");
const loaded = await import(pathToFileURL(entry));
// The one before is CommonJS.
const sdk = loaded.default ?? loaded;
const { version } = JSON.parse(readFileSync(join(directory, "svix", "package.json")));
const isNewest = Number(version.split(".")[0]) >= 2;

const name = process.env.TOUR_NAME;
const connect = (token) => new sdk.Svix(token, { serverUrl: process.env.TOUR_URL });
const svix = connect(process.env.TOUR_TOKEN);
const receiver = await Receiver.start();

/** The names that changed between the majors. */
const types = isNewest ? "eventTypes" : "filterTypes";
const replace = (api) => (isNewest ? api.upsert : api.update).bind(api);

const verifies = (secret, delivery, body = delivery.body) => {
  try {
    new sdk.Webhook(secret).verify(body, delivery.headers);
    return true;
  } catch (error) {
    if (!(error instanceof sdk.WebhookVerificationError)) throw error;
    return false;
  }
};

async function applications() {
  const uid = `${name}-a`;
  const wanted = { name: "Tour", uid, metadata: { plan: "gold" }, throttleRate: 900 };
  const made = await svix.application.create(wanted, { idempotencyKey: `${name}-app` });
  matches("application.id", made.id, /^app_[0-9A-Za-z]{27}$/);
  equal("application.uid", made.uid, uid);
  equal("application.name", made.name, "Tour");
  equal("application.metadata", made.metadata, { plan: "gold" });
  equal("application.throttleRate", made.throttleRate, 900);
  time("application.createdAt", made.createdAt);
  time("application.updatedAt", made.updatedAt);
  const again = await svix.application.create(wanted, { idempotencyKey: `${name}-app` });
  equal("one key is one application", again.id, made.id);
  await refusedAs("a uid that is taken", 409, "conflict", () => svix.application.create(wanted));
  equal("getOrCreate", (await svix.application.getOrCreate(wanted)).id, made.id);

  const read = await svix.application.get(uid);
  equal("by uid: id", read.id, made.id);
  equal("by uid: uid", read.uid, uid);
  equal("by uid: name", read.name, "Tour");
  equal("by uid: metadata", read.metadata, { plan: "gold" });
  equal("by uid: throttleRate", read.throttleRate, 900);
  equal("by uid: createdAt", read.createdAt, made.createdAt);
  equal("by id", (await svix.application.get(made.id)).uid, uid);

  const patched = await svix.application.patch(uid, { name: "Patched", throttleRate: null });
  equal("patched: name", patched.name, "Patched");
  equal("patched: uid", patched.uid, uid);
  equal("patched: metadata", patched.metadata, { plan: "gold" });
  equal("patched: throttleRate", patched.throttleRate ?? null, null);
  const replaced = await replace(svix.application)(uid, { name: "Replaced", metadata: { plan: "tin" } });
  equal("replaced: name", replaced.name, "Replaced");
  equal("replaced: metadata", replaced.metadata, { plan: "tin" });
  equal("replaced: id", replaced.id, made.id);
  await refusedAs("no such application", 404, "not_found", () => svix.application.get(`${name}-none`));
  const wrong = await refused("a name that is missing", 422, () => svix.application.create({ name: "" }));
  equal("422: place", wrong.detail[0].loc, ["body", "name"]);
  matches("422: text", wrong.detail[0].msg, /\S/);
  equal("422: type", wrong.detail[0].type, "value_error");
  return uid;
}

async function pages(uid) {
  for (const letter of ["b", "c"]) {
    await svix.application.create({ name: "Tour", uid: `${name}-${letter}` });
  }
  const [seen, all] = [[], []];
  let iterator = null;
  for (let done = false; !done; ) {
    const page = await svix.application.list({ limit: 2, iterator });
    equal("list: done", typeof page.done, "boolean");
    equal("list: at most as many as asked for", page.data.length <= 2, true);
    equal("list: a page before the last is full", page.done || page.data.length === 2, true);
    all.push(page);
    seen.push(...page.data.map((application) => application.uid));
    ({ iterator, done } = page);
    if (!done) matches("list: iterator", iterator, /^app_/);
  }
  const ours = seen.filter((other) => other?.startsWith(name));
  equal("list: each once, oldest first", ours, [uid, `${name}-b`, `${name}-c`]);
  matches("list: prevIterator", all[1].prevIterator, /^-app_/);
  const back = await svix.application.list({ limit: 2, iterator: all[1].prevIterator });
  const ids = (page) => page.data.map((application) => application.id);
  equal("list: back", ids(back), ids(all[0]));
}

async function eventTypes() {
  const paid = `${name}.paid`;
  const schemas = { 1: { type: "object", required: ["amount"] } };
  const wanted = { name: paid, description: "Paid", schemas, groupName: "orders", featureFlags: ["beta"] };
  const made = await svix.eventType.create(wanted);
  equal("event type: name", made.name, paid);
  equal("event type: description", made.description, "Paid");
  equal("event type: schemas", made.schemas, schemas);
  equal("event type: groupName", made.groupName, "orders");
  equal("event type: featureFlags", made.featureFlags, ["beta"]);
  equal("event type: archived", made.archived, false);
  equal("event type: deprecated", made.deprecated, false);
  time("event type: createdAt", made.createdAt);
  time("event type: updatedAt", made.updatedAt);
  await refusedAs("an event type that exists", 409, "conflict", () => svix.eventType.create(wanted));
  equal("event type: read", (await svix.eventType.get(paid)).schemas, schemas);
  const patched = await svix.eventType.patch(paid, { description: "Is paid", deprecated: true });
  equal("event type: patched", [patched.description, patched.deprecated], ["Is paid", true]);
  const replaced = await replace(svix.eventType)(paid, { description: "Paid at last" });
  equal("event type: replaced", [replaced.name, replaced.description], [paid, "Paid at last"]);
  equal("event type: no longer deprecated", replaced.deprecated, false);

  const gone = `${name}.gone`;
  await svix.eventType.create({ name: gone, description: "" });
  await svix.eventType.delete(gone);
  equal("event type: archived", (await svix.eventType.get(gone)).archived, true);
  const listed = async (options) => {
    const names = [];
    for (let page = { done: false, iterator: null }; !page.done; ) {
      page = await svix.eventType.list({ limit: 250, iterator: page.iterator, ...options });
      equal("event types: done", typeof page.done, "boolean");
      names.push(...page.data.map((type) => type.name).filter((type) => type.startsWith(`${name}.`)));
    }
    return names;
  };
  equal("event types: listed", await listed({}), [paid]);
  equal("event types: with archived ones", await listed({ includeArchived: true }), [gone, paid]);
  await svix.eventType.delete(gone, { expunge: true });
  await refusedAs("an event type that is expunged", 404, "not_found", () => svix.eventType.get(gone));

  const described = { post: { description: "Sent", requestBody: { content: { "application/json": { schema: { type: "object" } } } } } };
  const spec = { openapi: "3.1.0", info: { title: "t", version: "1" }, webhooks: { [`${name}.sent`]: described } };
  const planned = await svix.eventType.importOpenapi({ spec, dryRun: true });
  equal("import: what would change", planned.data.toModify.map((type) => type.name), [`${name}.sent`]);
  await refused("import: nothing yet", 404, () => svix.eventType.get(`${name}.sent`));
  const imported = await svix.eventType.importOpenapi({ specRaw: JSON.stringify(spec) });
  equal("import: changed", imported.data.modified, [`${name}.sent`]);
  const sent = await svix.eventType.get(`${name}.sent`);
  equal("import: event type", [sent.description, sent.schemas], ["Sent", { 1: { type: "object" } }]);
  return paid;
}

async function endpoints(app, eventType) {
  const uid = `${name}-hook`;
  const url = `${receiver.url}?tour`;
  const wanted = {
    url,
    uid,
    description: "Hook",
    [types]: [eventType],
    channels: ["eu"],
    metadata: { team: "a" },
    headers: { "x-tour": "one", Authorization: "secret" },
    throttleRate: 900,
  };
  const made = await svix.endpoint.create(app, wanted);
  matches("endpoint.id", made.id, /^ep_[0-9A-Za-z]{27}$/);
  equal("endpoint.url", made.url, url);
  equal("endpoint.uid", made.uid, uid);
  equal("endpoint.description", made.description, "Hook");
  equal("endpoint: event types", made[types], [eventType]);
  equal("endpoint.channels", made.channels, ["eu"]);
  equal("endpoint.metadata", made.metadata, { team: "a" });
  equal("endpoint.throttleRate", made.throttleRate, 900);
  equal("endpoint.disabled", made.disabled, false);
  if (!isNewest) equal("endpoint.version", made.version, 1);
  time("endpoint.createdAt", made.createdAt);
  time("endpoint.updatedAt", made.updatedAt);
  const read = await svix.endpoint.get(app, uid);
  equal("endpoint by uid", [read.id, read.url, read.uid], [made.id, url, uid]);
  const list = await svix.endpoint.list(app);
  equal("endpoints: listed", [list.data.map((one) => one.id), list.done], [[made.id], true]);

  const headers = await svix.endpoint.getHeaders(app, uid);
  equal("headers", headers.headers, { "x-tour": "one" });
  equal("headers: not shown", headers.sensitive, ["authorization"]);
  await svix.endpoint.patchHeaders(app, uid, { headers: { "x-more": "two" }, deleteHeaders: ["authorization"] });
  const more = await svix.endpoint.getHeaders(app, uid);
  equal("headers: patched", more, { headers: { "x-more": "two", "x-tour": "one" }, sensitive: [] });
  await (isNewest ? svix.endpoint.setHeaders : svix.endpoint.updateHeaders).call(svix.endpoint, app, uid, {
    headers: { "x-tour": "three" },
  });
  equal("headers: replaced", (await svix.endpoint.getHeaders(app, uid)).headers, { "x-tour": "three" });

  const patched = await svix.endpoint.patch(app, uid, { description: "Patched", throttleRate: null });
  equal("endpoint: patched", [patched.description, patched.url, patched[types]], ["Patched", url, [eventType]]);
  const body = { url, uid, description: "Replaced", [types]: [eventType], channels: ["eu"], metadata: { team: "b" } };
  const replaced = await replace(svix.endpoint)(app, uid, body);
  equal("endpoint: replaced", [replaced.id, replaced.description], [made.id, "Replaced"]);
  equal("endpoint: replaced metadata", replaced.metadata, { team: "b" });
  await refusedAs("no such endpoint", 404, "not_found", () => svix.endpoint.get(app, "nobody"));
  const wrong = await refused("a URL that is none", 422, () => svix.endpoint.create(app, { url: "nowhere" }));
  equal("422: place of the URL", wrong.detail[0].loc, ["body", "url"]);
  const unknown = { url, [types]: [`${name}.unknown`] };
  await refused("an event type that does not exist", 422, () => svix.endpoint.create(app, unknown));
  return uid;
}

async function messages(app, endpoint, eventType) {
  const { key: secret } = await svix.endpoint.getSecret(app, endpoint);
  matches("secret", secret, /^whsec_[0-9A-Za-z+/]+=*$/);
  const payload = { amount: 1.5, name: "Zo\u00eb" };
  const wanted = { eventType, eventId: `${name}-1`, payload, channels: ["eu"], tags: ["red", "blue"] };
  const options = { idempotencyKey: `${name}-key` };
  const made = await svix.message.create(app, wanted, { withContent: true, ...options });
  matches("message.id", made.id, /^msg_[0-9A-Za-z]{27}$/);
  equal("message.eventType", made.eventType, eventType);
  equal("message.eventId", made.eventId, `${name}-1`);
  equal("message.channels", made.channels, ["eu"]);
  equal("message.tags", made.tags, ["red", "blue"]);
  equal("message.payload", made.payload, payload);
  time("message.timestamp", made.timestamp);
  equal("one key is one message", (await svix.message.create(app, wanted, options)).id, made.id);
  const other = { ...wanted, payload: { amount: 2 } };
  await refusedAs("a key for another body", 409, "conflict", () => svix.message.create(app, other, options));
  await refusedAs("an eventId that is taken", 409, "conflict", () => svix.message.create(app, wanted, { idempotencyKey: `${name}-other` }));
  const wrong = await refused("no event type", 422, () => svix.message.create(app, { eventType: "a b", payload }));
  equal("422: place in a message", wrong.detail[0].loc, ["body", "eventType"]);

  const [delivery] = await receiver.of(made.id);
  equal("delivery: payload", JSON.parse(delivery.body), payload);
  equal("delivery: own header", delivery.headers["x-tour"], "three");
  equal("delivery: content type", delivery.headers["content-type"], "application/json");
  equal("delivery: verified", verifies(secret, delivery), true);
  equal("delivery: changed", verifies(secret, delivery, `${delivery.body} `), false);
  return { id: made.id, secret };
}

async function rotation(app, endpoint, eventType, secret) {
  const send = async () => {
    const { id } = await svix.message.create(app, { eventType, payload: { rotated: true }, channels: ["eu"] });
    return (await receiver.of(id))[0];
  };
  await svix.endpoint.rotateSecret(app, endpoint, { gracePeriodSeconds: 3_600 });
  const { key: next } = await svix.endpoint.getSecret(app, endpoint);
  equal("rotated: another secret", next !== secret, true);
  const overlapping = await send();
  equal("overlap: two signatures", overlapping.headers["webhook-signature"].split(" ").length, 2);
  equal("overlap: both verify", [verifies(secret, overlapping), verifies(next, overlapping)], [true, true]);
  const own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  await svix.endpoint.rotateSecret(app, endpoint, { key: own, gracePeriodSeconds: 0 });
  equal("rotated: to our own", (await svix.endpoint.getSecret(app, endpoint)).key, own);
  const after = await send();
  // What was replaced without a period of grace signs no more; what still has one does.
  equal("no grace: ours verifies", verifies(own, after), true);
  equal("no grace: the former one does not", verifies(next, after), false);
  const long = { gracePeriodSeconds: 7 * 24 * 3_600 + 1 };
  await refused("a period that is too long", 422, () => svix.endpoint.rotateSecret(app, endpoint, long));
}

async function tokens(app) {
  const access = await svix.authentication.appPortalAccess(app, { expiry: 3_600, sessionId: `${name}-s` });
  matches("portal: url", access.url, /^http.*#key=/);
  const portal = connect(access.token);
  equal("portal: own application", (await portal.application.get(app)).uid, app);
  await refusedAs("portal: another application", 404, "not_found", () => portal.application.get(`${name}-b`));
  await refusedAs("portal: all applications", 403, "insufficient_access", () => portal.application.list());
  await portal.authentication.logout();
  await refusedAs("logged out", 401, "authentication_failed", () => portal.application.get(app));
  const another = connect((await svix.authentication.appPortalAccess(app)).token);
  equal("another token", (await another.application.get(app)).uid, app);
  await svix.authentication.expireAll(app);
  await refusedAs("expired with all others", 401, "authentication_failed", () => another.application.get(app));
  const nobody = () => connect("nonsense").application.list();
  await refusedAs("no token of ours", 401, "authentication_failed", nobody);
}

async function reads(app, eventType, message) {
  const read = await svix.message.get(app, message, { withContent: true });
  equal("message: read", [read.id, read.eventId, read.eventType], [message, `${name}-1`, eventType]);
  equal("message: read payload", read.payload, { amount: 1.5, name: "Zo\u00eb" });
  equal("message: by eventId", (await svix.message.get(app, `${name}-1`)).id, message);
  const list = await svix.message.list(app, { tag: "red" });
  equal("messages: by tag", list.data.map((one) => one.id), [message]);
}

async function attempts(app, endpoint, message) {
  const { id } = await svix.endpoint.get(app, endpoint);
  // An attempt is written down a moment after it was made.
  const list = await asSoonAs(
    () => svix.messageAttempt.listByMsg(app, message, { withContent: true }),
    ({ data }) => data.length > 0,
  );
  const [attempt] = list.data;
  equal("attempts: how many", list.data.length, 1);
  matches("attempt.id", attempt.id, /^atmpt_/);
  equal("attempt.msgId", attempt.msgId, message);
  equal("attempt.endpointId", attempt.endpointId, id);
  equal("attempt: status", [attempt.status, attempt.statusText], [0, "success"]);
  equal("attempt.responseStatusCode", attempt.responseStatusCode, 200);
  equal("attempt.response", attempt.response, "taken");
  equal("attempt.triggerType", attempt.triggerType, 0);
  equal("attempt.url", attempt.url, `${receiver.url}?tour`);
  time("attempt.timestamp", attempt.timestamp);
  const one = await svix.messageAttempt.get(app, message, attempt.id);
  equal("attempt: alone", [one.id, one.status], [attempt.id, 0]);
  const byEndpoint = await svix.messageAttempt.listByEndpoint(app, endpoint);
  equal("attempts of the endpoint", byEndpoint.data.some((other) => other.id === attempt.id), true);
}

async function resend(app, endpoint, message) {
  await svix.messageAttempt.resend(app, message, endpoint);
  const deliveries = await receiver.of(message, 2);
  equal("resent: the same body", deliveries[1].body, deliveries[0].body);
}

async function recover(app, endpoint) {
  const since = new Date(Date.now() - 3_600_000);
  const task = await svix.endpoint.recover(app, endpoint, { since });
  matches("recover: id", task.id, /^qtask_/);
  equal("recover: task", task.task, "endpoint.recover");
  matches("recover: status", task.status, /^(running|finished)$/);
}

async function ends(app, endpoint) {
  await svix.endpoint.delete(app, endpoint);
  await refusedAs("a deleted endpoint", 404, "not_found", () => svix.endpoint.get(app, endpoint));
  for (const uid of [app, `${name}-b`, `${name}-c`]) await svix.application.delete(uid);
  await refusedAs("a deleted application", 404, "not_found", () => svix.application.get(app));
}

try {
  const app = await applications();
  await pages(app);
  const eventType = await eventTypes();
  const endpoint = await endpoints(app, eventType);
  const { id: message, secret } = await messages(app, endpoint, eventType);
  await reads(app, eventType, message);
  await attempts(app, endpoint, message);
  await resend(app, endpoint, message);
  await recover(app, endpoint);
  await rotation(app, endpoint, eventType, secret);
  await tokens(app);
  await ends(app, endpoint);
  console.log(`svix ${version}: ${count()} checks`);
} catch (error) {
  console.error(`svix ${version}: ${error.stack}`);
  process.exitCode = 1;
} finally {
  receiver.stop();
}
