// What is made before anything is published: applications, event types, endpoints.

import { equal, lastPage, matches, refused, refusedAs, time } from "./check.mjs";
import { isNewest, name, receiver, replace, svix, types } from "./visit.mjs";

export async function applications() {
  const uid = `${name}-a`;
  const wanted = { name: "Tour", uid, metadata: { plan: "gold" }, throttleRate: 900 };
  const made = await svix.application.create(wanted, { idempotencyKey: `${name}-app` });
  matches("application.id", made.id, /^app_[0-9A-Za-z]{27}$/);
  equal("application.uid", made.uid, uid);
  equal("application.name", made.name, "Tour");
  equal("application.metadata", made.metadata, { plan: "gold" });
  equal("application.throttleRate", made.throttleRate, 900);
  if (!isNewest) equal("application.rateLimit", made.rateLimit, 900);
  time("application.createdAt", made.createdAt);
  time("application.updatedAt", made.updatedAt);
  const again = await svix.application.create(wanted, { idempotencyKey: `${name}-app` });
  equal("one key is one application", again, made);
  await refusedAs("a uid that is taken", 409, "conflict", () => svix.application.create(wanted));
  equal("getOrCreate", await svix.application.getOrCreate(wanted), made);
  equal("by uid", await svix.application.get(uid), made);
  equal("by id", await svix.application.get(made.id), made);

  const patched = await svix.application.patch(uid, { name: "Patched", throttleRate: null });
  equal("patched: name", patched.name, "Patched");
  equal("patched: uid", patched.uid, uid);
  equal("patched: metadata", patched.metadata, { plan: "gold" });
  equal("patched: throttleRate", patched.throttleRate ?? null, null);
  equal("patched: createdAt", patched.createdAt, made.createdAt);
  equal("patched: later", patched.updatedAt >= made.updatedAt, true);
  equal("patched: read", await svix.application.get(uid), patched);
  const body = { name: "Replaced", metadata: { plan: "tin" }, throttleRate: 800 };
  const replaced = await replace(svix.application)(uid, body);
  equal("replaced: name", replaced.name, "Replaced");
  equal("replaced: metadata", replaced.metadata, { plan: "tin" });
  equal("replaced: throttleRate", replaced.throttleRate, 800);
  equal("replaced: id", replaced.id, made.id);
  equal("replaced: read", await svix.application.get(uid), replaced);
  await refusedAs("no such application", 404, "not_found", () => svix.application.get(`${name}-none`));
  const wrong = await refused("a name that is missing", 422, () => svix.application.create({ name: "" }));
  equal("422: place", wrong.detail[0].loc, ["body", "name"]);
  matches("422: text", wrong.detail[0].msg, /\S/);
  equal("422: type", wrong.detail[0].type, "value_error");
  return replaced;
}

export async function pages(first) {
  const made = [first];
  for (const letter of ["b", "c"]) {
    made.push(await svix.application.create({ name: "Tour", uid: `${name}-${letter}`, throttleRate: 700 }));
  }
  const [seen, all] = [[], []];
  let iterator = null;
  for (let done = false; !done; ) {
    const page = await svix.application.list({ limit: 2, iterator });
    equal("list: done", typeof page.done, "boolean");
    equal("list: at most as many as asked for", page.data.length <= 2, true);
    equal("list: a page before the last is full", page.done || page.data.length === 2, true);
    all.push(page);
    seen.push(...page.data);
    ({ iterator, done } = page);
    if (!done) matches("list: iterator", iterator, /^app_/);
  }
  const ours = seen.filter(({ uid }) => uid?.startsWith(`${name}-`));
  equal("list: each once, oldest first", ours, made);
  matches("list: prevIterator", all[1].prevIterator, /^-app_/);
  const back = await svix.application.list({ limit: 2, iterator: all[1].prevIterator });
  equal("list: back", back.data, all[0].data);
}

export async function eventTypes() {
  const paid = `${name}.paid`;
  const schemas = { 1: { type: "object", required: ["amount"] } };
  const rest = { schemas, groupName: "orders", featureFlags: ["beta"] };
  const wanted = { name: paid, description: "Paid", ...rest };
  const made = await svix.eventType.create(wanted);
  equal("event type: name", made.name, paid);
  equal("event type: description", made.description, "Paid");
  equal("event type: schemas", made.schemas, schemas);
  equal("event type: groupName", made.groupName, "orders");
  equal("event type: featureFlags", made.featureFlags, ["beta"]);
  equal("event type: featureFlag", made.featureFlag, "beta");
  equal("event type: archived", made.archived, false);
  equal("event type: deprecated", made.deprecated, false);
  time("event type: createdAt", made.createdAt);
  time("event type: updatedAt", made.updatedAt);
  await refusedAs("an event type that exists", 409, "conflict", () => svix.eventType.create(wanted));
  equal("event type: read", await svix.eventType.get(paid), made);
  const patched = await svix.eventType.patch(paid, { description: "Is paid", deprecated: true });
  equal("event type: patched", [patched.description, patched.deprecated], ["Is paid", true]);
  equal("event type: patched, read", await svix.eventType.get(paid), patched);
  const replaced = await replace(svix.eventType)(paid, { description: "Paid at last", ...rest });
  equal("event type: replaced", [replaced.name, replaced.description], [paid, "Paid at last"]);
  equal("event type: no longer deprecated", replaced.deprecated, false);
  equal("event type: replaced, read", await svix.eventType.get(paid), replaced);

  const gone = `${name}.gone`;
  await svix.eventType.create({ name: gone, description: "" });
  await svix.eventType.delete(gone);
  equal("event type: archived", (await svix.eventType.get(gone)).archived, true);
  equal("event types: listed", await listed({ withContent: true }), [replaced]);
  const all = await listed({ includeArchived: true });
  equal("event types: with archived ones", all.map((type) => type.name), [gone, paid]);
  await svix.eventType.delete(gone, { expunge: true });
  await refusedAs("an event type that is expunged", 404, "not_found", () => svix.eventType.get(gone));
  return paid;
}

/** The event types of this tour. */
async function listed(options) {
  const found = [];
  for (let page = { done: false, iterator: null }; !page.done; ) {
    page = await svix.eventType.list({ limit: 250, iterator: page.iterator, ...options });
    equal("event types: done", typeof page.done, "boolean");
    equal("event types: iterator", page.iterator, page.data.at(-1)?.name);
    equal("event types: prevIterator", page.prevIterator, `-${page.data[0]?.name}`);
    found.push(...page.data.filter((type) => type.name.startsWith(`${name}.`)));
  }
  return found;
}

export async function imports() {
  const sent = `${name}.sent`;
  const schema = { type: "object", examples: [{ sent: true }] };
  const post = {
    description: "Sent",
    deprecated: true,
    "x-svix-group-name": "orders",
    "x-svix-feature-flags": ["beta"],
    requestBody: { content: { "application/json": { schema } } },
  };
  const spec = { openapi: "3.1.0", info: { title: "t", version: "1" }, webhooks: { [sent]: { post } } };
  const planned = (await svix.eventType.importOpenapi({ spec, dryRun: true })).data;
  equal("import: what would change", [planned.modified, planned.toModify.length], [[sent], 1]);
  await refused("import: nothing yet", 404, () => svix.eventType.get(sent));
  const imported = await svix.eventType.importOpenapi({ specRaw: JSON.stringify(spec) });
  equal("import: changed", imported.data.modified, [sent]);
  const read = await svix.eventType.get(sent);
  equal("import: description", [read.description, read.deprecated], ["Sent", true]);
  equal("import: schemas", read.schemas, { 1: schema });
  equal("import: group and flags", [read.groupName, read.featureFlags], ["orders", ["beta"]]);
  for (const [field, value] of Object.entries(planned.toModify[0])) {
    equal(`import: ${field} as planned`, value, read[field]);
  }
  return sent;
}

export async function endpoints(app, eventType) {
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
  if (!isNewest) equal("endpoint: former fields", [made.version, made.rateLimit], [1, 900]);
  time("endpoint.createdAt", made.createdAt);
  time("endpoint.updatedAt", made.updatedAt);
  equal("endpoint by uid", await svix.endpoint.get(app, uid), made);
  const list = await svix.endpoint.list(app);
  equal("endpoints: listed", list.data, [made]);
  lastPage("endpoints", list);

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
  equal("endpoint: patched, read", await svix.endpoint.get(app, uid), patched);
  const { headers: _, ...body } = { ...wanted, description: "Replaced", metadata: { team: "b" }, throttleRate: 800 };
  const replaced = await replace(svix.endpoint)(app, uid, body);
  equal("endpoint: replaced", [replaced.id, replaced.description], [made.id, "Replaced"]);
  equal("endpoint: replaced metadata", replaced.metadata, { team: "b" });
  equal("endpoint: replaced throttleRate", replaced.throttleRate, 800);
  equal("endpoint: replaced, read", await svix.endpoint.get(app, uid), replaced);
  await refusedAs("no such endpoint", 404, "not_found", () => svix.endpoint.get(app, "nobody"));
  const wrong = await refused("a URL that is none", 422, () => svix.endpoint.create(app, { url: "nowhere" }));
  equal("422: place of the URL", wrong.detail[0].loc, ["body", "url"]);
  const unknown = { url, [types]: [`${name}.unknown`] };
  await refused("an event type that does not exist", 422, () => svix.endpoint.create(app, unknown));
  return uid;
}
