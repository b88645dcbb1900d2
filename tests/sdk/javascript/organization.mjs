// What an organization sees and does beside: operational webhooks, statistics, tokens, erasing, and the end of it all.

import { SINCE, isTask } from "./again.mjs";
import { equal, lastPage, matches, refusedAs, time } from "./check.mjs";
import { connect, isNewest, name, receiver, replace, svix, types } from "./visit.mjs";

const UNTIL = new Date("2100-01-01T00:00:00Z");

export async function operational() {
  const api = svix.operationalWebhook.endpoint;
  const uid = `${name}-told`;
  const url = `${receiver.url}?told`;
  const rest = { metadata: { team: "a" }, throttleRate: 900 };
  const made = await api.create({ url, uid, description: "Told", [types]: ["endpoint.created"], ...rest });
  matches("operational: id", made.id, /^ep_/);
  equal("operational", [made.url, made.uid, made.description], [url, uid, "Told"]);
  equal("operational: event types", made[types], ["endpoint.created"]);
  equal("operational: metadata", made.metadata, { team: "a" });
  equal("operational: throttleRate", made.throttleRate, 900);
  equal("operational: disabled", made.disabled, false);
  time("operational: createdAt", made.createdAt);
  time("operational: updatedAt", made.updatedAt);
  equal("operational: read", await api.get(uid), made);
  const list = await api.list({ limit: 250 });
  equal("operational: listed", list.data.find(({ id }) => id === made.id), made);
  lastPage("operational", list);
  const replaced = await replace(api)(uid, { url, uid, [types]: ["endpoint.created"], description: "Replaced", ...rest });
  equal("operational: replaced", [replaced.id, replaced.description], [made.id, "Replaced"]);
  equal("operational: replaced, read", await api.get(made.id), replaced);
  const { key: secret } = await api.getSecret(uid);
  matches("operational: secret", secret, /^whsec_/);
  return { uid, secret };
}

/** Of an application with two endpoints. */
export async function statistics(app, eventType) {
  const { id: appId } = await svix.application.get(app);
  const wanted = { since: SINCE, until: UNTIL, appIds: [app, `${name}-none`] };
  const usage = await svix.statistics.aggregateAppStats(wanted);
  equal("usage: unresolved", usage.unresolvedAppIds, [`${name}-none`]);
  // Each message once for each endpoint that it came to, however often.
  equal("usage", await report("usage", usage, "application.stats"), {
    since: "2020-01-01T00:00:00.000000Z",
    until: "2100-01-01T00:00:00.000000Z",
    appStats: [{ appId, appUid: app, messageDestinations: 5 }],
  });
  const wants = await report("event types", await svix.statistics.aggregateEventTypes(), "event-type.aggregate");
  const ours = wants.appEventTypes.find((one) => one.appUid === app);
  equal("event types that are wanted", ours, { appId, appUid: app, eventTypes: { [eventType]: 2 } });
}

/** What a report says, which is a task that is finished at once. */
async function report(what, asked, kind) {
  isTask(what, asked, kind);
  const { data, ...task } = await svix.backgroundTask.get(asked.id);
  const { id, status, updatedAt } = asked;
  equal(`${what}: status`, status, "finished");
  equal(`${what}: read`, task, { id, status, task: kind, updatedAt });
  return data;
}

export async function tokens(app) {
  const access = await svix.authentication.appPortalAccess(app, { expiry: 3_600, sessionId: `${name}-s` });
  matches("portal: url", access.url, /^http.*#key=/);
  const portal = connect(access.token);
  equal("portal: own application", (await portal.application.get(app)).uid, app);
  await refusedAs("portal: another application", 404, "not_found", () => portal.application.get(`${name}-b`));
  await refusedAs("portal: all applications", 403, "insufficient_access", () => portal.application.list());
  await portal.authentication.logout();
  await refusedAs("logged out", 401, "authentication_failed", () => portal.application.get(app));
  if (!isNewest) {
    const former = await svix.authentication.dashboardAccess(app);
    matches("dashboard: url", former.url, /^http.*#key=/);
    equal("dashboard: token", (await connect(former.token).application.get(app)).uid, app);
  }
  const another = connect((await svix.authentication.appPortalAccess(app)).token);
  equal("another token", (await another.application.get(app)).uid, app);
  await svix.authentication.expireAll(app);
  await refusedAs("expired with all others", 401, "authentication_failed", () => another.application.get(app));
  const nobody = () => connect("nonsense").application.list();
  await refusedAs("no token of ours", 401, "authentication_failed", nobody);
}

/** Contents: of an answer, of a message, of some, of all. */
export async function erases(app, endpoint, message, failed) {
  const { data } = await svix.messageAttempt.listByMsg(app, failed.id, { withContent: true });
  await svix.messageAttempt.expungeContent(app, failed.id, data[0].id);
  equal("an answer that is erased", (await svix.messageAttempt.get(app, failed.id, data[0].id)).response, "");
  const payload = async ({ id }) => (await svix.message.get(app, id, { withContent: true })).payload;
  await svix.message.expungeContent(app, message.id);
  equal("a message that is erased", await payload(message), { expired: true });
  const resent = () => svix.messageAttempt.resend(app, message.id, endpoint);
  await refusedAs("what is erased is not sent again", 400, "missing_payload", resent);
  if (isNewest) {
    const { results } = await svix.message.bulkExpungeContent(app, { ids: [failed.id, `${name}-none`] });
    equal("some are erased", results, { [failed.id]: "expunged", [`${name}-none`]: "not-found" });
    equal("one of some", await payload(failed), { expired: true });
  }
  isTask("all are erased", await svix.message.expungeAllContents(app), "application.purge_content");
  const [last] = (await svix.message.list(app, { limit: 1, withContent: true })).data;
  equal("one of all", last.payload, { expired: true });
}

export async function ends(app, endpoint, told) {
  await svix.operationalWebhook.endpoint.delete(told);
  const operational = () => svix.operationalWebhook.endpoint.get(told);
  await refusedAs("a deleted operational endpoint", 404, "not_found", operational);
  await svix.endpoint.delete(app, endpoint);
  await refusedAs("a deleted endpoint", 404, "not_found", () => svix.endpoint.get(app, endpoint));
  for (const uid of [app, `${name}-b`, `${name}-c`]) await svix.application.delete(uid);
  await refusedAs("a deleted application", 404, "not_found", () => svix.application.get(app));
}
