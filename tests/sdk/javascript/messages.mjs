// What is published, what became of it, and sending it again one by one.

import { between, equal, lastPage, matches, refused, refusedAs, time } from "./check.mjs";
import { TAKES_MS, asSoonAs } from "./receiver.mjs";
import { name, receiver, svix, verifies } from "./visit.mjs";

export async function messages(app, endpoint, eventType) {
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
  const otherKey = { idempotencyKey: `${name}-other` };
  const taken = () => svix.message.create(app, wanted, otherKey);
  await refusedAs("an eventId that is taken", 409, "conflict", taken);
  const wrong = await refused("no event type", 422, () => svix.message.create(app, { eventType: "a b", payload }));
  equal("422: place in a message", wrong.detail[0].loc, ["body", "eventType"]);

  const [delivery] = await receiver.of(made.id);
  equal("delivery: payload", JSON.parse(delivery.body), payload);
  equal("delivery: own header", delivery.headers["x-tour"], "three");
  equal("delivery: content type", delivery.headers["content-type"], "application/json");
  equal("delivery: verified", verifies(secret, delivery), true);
  equal("delivery: changed", verifies(secret, delivery, `${delivery.body} `), false);
  return { message: made, secret };
}

export async function reads(app, message) {
  equal("message: read", await svix.message.get(app, message.id, { withContent: true }), message);
  equal("message: by eventId", await svix.message.get(app, `${name}-1`, { withContent: true }), message);
  const list = await svix.message.list(app, { tag: "red", withContent: true });
  equal("messages: by tag", list.data, [message]);
  lastPage("messages", list);
}

export async function attempts(app, endpoint, message) {
  // With what it was sent to: a message has a standing at each.
  const { metadata: _, ...described } = await svix.endpoint.get(app, endpoint);
  const success = { status: 0, statusText: "success", nextAttempt: null };
  // An attempt is written down a moment after it was made.
  const list = await asSoonAs(
    () => svix.messageAttempt.listByMsg(app, message.id, { withContent: true }),
    ({ data }) => data.length > 0,
  );
  const [attempt] = list.data;
  equal("attempts: how many", list.data.length, 1);
  matches("attempt.id", attempt.id, /^atmpt_/);
  equal("attempt.msgId", attempt.msgId, message.id);
  equal("attempt.endpointId", attempt.endpointId, described.id);
  equal("attempt: status", [attempt.status, attempt.statusText], [0, "success"]);
  equal("attempt.responseStatusCode", attempt.responseStatusCode, 200);
  between("attempt.responseDurationMs", attempt.responseDurationMs, TAKES_MS / 2, 20_000);
  equal("attempt.response", attempt.response, "taken");
  equal("attempt.triggerType", attempt.triggerType, 0);
  equal("attempt.url", attempt.url, `${receiver.url}?tour`);
  time("attempt.timestamp", attempt.timestamp);
  lastPage("attempts", list);
  equal("attempt: alone", await svix.messageAttempt.get(app, message.id, attempt.id), attempt);

  const options = { withContent: true, withMsg: true };
  const byEndpoint = await svix.messageAttempt.listByEndpoint(app, endpoint, options);
  const bare = await svix.message.get(app, message.id, { withContent: false });
  equal("attempts of the endpoint", byEndpoint.data, [{ ...attempt, msg: bare }]);
  lastPage("attempts of the endpoint", byEndpoint);
  const attempted = await svix.messageAttempt.listAttemptedMessages(app, endpoint, { withContent: true });
  equal("messages of the endpoint", attempted.data, [{ ...message, ...success }]);
  lastPage("messages of the endpoint", attempted, "msgep_");
  const destinations = await svix.messageAttempt.listAttemptedDestinations(app, message.id);
  equal("endpoints of the message", destinations.data, [{ ...described, ...success }]);
  lastPage("endpoints of the message", destinations, "msgep_");
}

export async function resend(app, endpoint, message) {
  await svix.messageAttempt.resend(app, message.id, endpoint);
  const deliveries = await receiver.of(message.id, 2);
  equal("resent: the same body", deliveries[1].body, deliveries[0].body);
}

export async function example(app, endpoint, eventType, secret) {
  const made = await svix.endpoint.sendExample(app, endpoint, { eventType });
  matches("example.id", made.id, /^msg_/);
  equal("example.eventType", made.eventType, eventType);
  equal("example.payload", made.payload, { sent: true });
  time("example.timestamp", made.timestamp);
  const [delivery] = await receiver.of(made.id);
  equal("example: delivered", [JSON.parse(delivery.body), verifies(secret, delivery)], [{ sent: true }, true]);
  equal("example: read", await svix.message.get(app, made.id, { withContent: true }), made);
}

export async function precheck(app, eventType) {
  const active = async (channel) => (await svix.message.precheck(app, { eventType, channels: [channel] })).active;
  equal("precheck", [await active("eu"), await active("nowhere")], [true, false]);
}

export async function rotation(app, endpoint, eventType, secret) {
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
