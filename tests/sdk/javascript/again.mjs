// What failed, was never sent, or is wanted once more is sent again in bulk; and the tasks that do it.

import { equal, lastPage, matches, time } from "./check.mjs";
import { asSoonAs } from "./receiver.mjs";
import { name, patchPlainly, receiver, svix, types, verifies } from "./visit.mjs";

export const SINCE = new Date("2020-01-01T00:00:00Z");

/** With a second endpoint, which comes late: `told` is the secret of who is told so. */
export async function again(app, hook, eventType, message, told) {
  const late = `${name}-late`;
  // It comes to the first endpoint: so it is routed before there is another.
  const wanted = { eventType, payload: { early: true }, channels: ["eu", "late"] };
  const early = await svix.message.create(app, wanted);
  await receiver.of(early.id);
  const url = `${receiver.url}?late`;
  const endpoint = await svix.endpoint.create(app, { url, uid: late, [types]: [eventType], channels: ["late"] });
  await isTold(told, app, endpoint);
  // One attempt, and it is a dead letter.
  await patchPlainly(`/api/v1/app/${app}/endpoint/${late}`, { retrySchedule: [] });
  const { key: secret } = await svix.endpoint.getSecret(app, late);
  const failed = await fails(app, late, eventType);

  const recovering = await svix.endpoint.recover(app, late, { since: SINCE });
  isTask("recover", recovering, "endpoint.recover");
  const replaying = await svix.endpoint.replayMissing(app, late, { since: SINCE });
  isTask("replay missing", replaying, "endpoint.replay");
  const bulk = await svix.endpoint.bulkReplay(app, hook, { since: SINCE, tag: "red" });
  isTask("bulk replay", bulk, "endpoint.bulk-replay");
  const [first, second] = await receiver.of(failed.id, 2);
  equal("recovered: the same body", second.body, first.body);
  equal("recovered: verified", verifies(secret, second), true);
  const missing = await receiver.of(early.id, 2);
  equal("replayed: the same body", missing[1].body, missing[0].body);
  equal("replayed: verified", verifies(secret, missing[1]), true);
  const thrice = await receiver.of(message.id, 3);
  equal("replayed in bulk: the same body", thrice[2].body, thrice[0].body);

  const { id: appId } = await svix.application.get(app);
  const { id: hookId } = await svix.endpoint.get(app, hook);
  const ended = await ends("recover", recovering, [appId, endpoint.id]);
  await ends("replay missing", replaying, [appId, endpoint.id]);
  await ends("bulk replay", bulk, [appId, hookId]);
  const list = await svix.backgroundTask.list({ task: "endpoint.recover", limit: 250 });
  equal("tasks: listed", list.data.find(({ id }) => id === ended.id), ended);
  lastPage("tasks", list);
  await recovered(app, late, failed);
  return failed;
}

async function isTold(secret, app, { id, uid }) {
  const delivery = await receiver.told(uid);
  const { type, data } = JSON.parse(delivery.body);
  equal("told", [type, data.appUid, data.endpointId], ["endpoint.created", app, id]);
  equal("told: verified", verifies(secret, delivery), true);
}

/** A message that the endpoint refuses, as soon as it is given up. */
async function fails(app, endpoint, eventType) {
  receiver.refuses = true;
  const rest = { payload: { fails: true }, channels: ["late"], tags: ["late"] };
  const made = await svix.message.create(app, { eventType, eventId: `${name}-2`, ...rest }, { withContent: true });
  await receiver.of(made.id);
  const [pending, sending] = [1, 3];
  const list = await asSoonAs(
    () => svix.messageAttempt.listAttemptedMessages(app, endpoint, { withContent: true }),
    ({ data }) => data.length > 0 && ![pending, sending].includes(data[0].status),
  );
  receiver.refuses = false;
  equal("failed", list.data, [{ ...made, status: 2, statusText: "fail", nextAttempt: null }]);
  await stands("failed", app, endpoint, { fail: 1 });
  return made;
}

async function stands(what, app, endpoint, counts) {
  const none = { success: 0, pending: 0, sending: 0, fail: 0, canceled: 0 };
  equal(`${what}: stats`, await svix.endpoint.getStats(app, endpoint), { ...none, ...counts });
}

export function isTask(what, task, kind) {
  matches(`${what}: id`, task.id, /^qtask_/);
  equal(`${what}: task`, task.task, kind);
  matches(`${what}: status`, task.status, /^(running|finished)$/);
  time(`${what}: updatedAt`, task.updatedAt);
}

/** The task as it is when it is over: it sent one message. */
async function ends(what, { id, task }, of) {
  const ended = await asSoonAs(() => svix.backgroundTask.get(id), ({ status }) => status !== "running");
  equal(`${what}: ended`, [ended.id, ended.status, ended.task], [id, "finished", task]);
  time(`${what}: ended at`, ended.updatedAt);
  const { appId, endpointId, total, sent, delivered, pending } = ended.data;
  equal(`${what}: where`, [appId, endpointId], of);
  equal(`${what}: how many`, [total, sent, delivered, pending], [1, 1, 1, 0]);
  return ended;
}

async function recovered(app, endpoint, failed) {
  const list = await asSoonAs(
    () => svix.messageAttempt.listByMsg(app, failed.id, { withContent: true }),
    ({ data }) => data.length > 1,
  );
  const told = list.data.map((one) => [one.status, one.statusText, one.responseStatusCode, one.response, one.triggerType]);
  // By hand, and before that as scheduled.
  equal("recovered: attempts", told, [[0, "success", 200, "taken", 1], [2, "fail", 500, "refused", 0]]);
  await stands("recovered", app, endpoint, { success: 2 });
}
