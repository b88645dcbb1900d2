// Has the official Standard Webhooks library judge deliveries.
//
// Reads a JSON list of {"secret", "headers", "body"}; prints "accepted" or "rejected" for each.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

// The library stands where `cargo xtask tools` installed it, not beside this file.
const require = createRequire(join(process.env.FANFARE_TOOLS, "node", "node_modules", "index.js"));
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

for (const { secret, headers, body } of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    new Webhook(secret).verify(Buffer.from(body), headers);
    console.log("accepted");
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    console.log("rejected");
  }
}
