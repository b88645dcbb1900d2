// An endpoint on this machine that keeps what it is sent.

import { createServer } from "node:http";

const PATIENCE_MS = 20_000;
const POLL_MS = 5;
/** So long it takes for an answer: an attempt that took no time could not be told from one of which nobody says. */
export const TAKES_MS = 10;

export class Receiver {
  static async start() {
    const receiver = new Receiver();
    receiver.deliveries = [];
    /** Whether it answers 500. */
    receiver.refuses = false;
    receiver.server = createServer((request, response) => {
      const pieces = [];
      request.on("data", (piece) => pieces.push(piece));
      request.on("end", () => {
        const { refuses } = receiver;
        receiver.deliveries.push({ headers: request.headers, body: Buffer.concat(pieces).toString() });
        setTimeout(() => {
          response.writeHead(refuses ? 500 : 200, { "content-type": "text/plain" });
          response.end(refuses ? "refused" : "taken");
        }, TAKES_MS);
      });
    });
    await new Promise((resolve) => receiver.server.listen(0, "127.0.0.1", resolve));
    receiver.url = `http://127.0.0.1:${receiver.server.address().port}/hook`;
    return receiver;
  }

  /** The deliveries of a message, as soon as there are so many. */
  async of(messageId, count = 1) {
    const its = await asSoonAs(
      () => this.deliveries.filter((delivery) => delivery.headers["webhook-id"] === messageId),
      (its) => its.length >= count,
    );
    if (its.length < count) throw new Error(`${its.length} deliveries of ${messageId}, not ${count}`);
    return its;
  }

  /** What operational webhooks say of an endpoint, as soon as the first one comes. */
  async told(endpointUid) {
    const says = ({ body }) => JSON.parse(body).data?.endpointUid === endpointUid;
    const [delivery] = await asSoonAs(
      () => this.deliveries.filter(says),
      (told) => told.length > 0,
    );
    if (!delivery) throw new Error(`nothing is told of ${endpointUid}`);
    return delivery;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** What is asked for, as soon as it is there, or as it is in the end. */
export async function asSoonAs(ask, isThere) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await ask();
    if (isThere(found) || Date.now() > deadline) return found;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
