// A tour of Fanfare with the official JavaScript SDK, unmodified.
//
// TOUR_SDK    directory where `svix` is installed
// TOUR_URL    the server
// TOUR_TOKEN  of the organization
// TOUR_NAME   begins all names of this tour: others run beside it

import { again } from "./again.mjs";
import { count } from "./check.mjs";
import { attempts, example, messages, precheck, reads, resend, rotation } from "./messages.mjs";
import { ends, erases, operational, statistics, tokens } from "./organization.mjs";
import { applications, endpoints, eventTypes, imports, pages } from "./resources.mjs";
import { receiver, version } from "./visit.mjs";

try {
  const application = await applications();
  const app = application.uid;
  await pages(application);
  const eventType = await eventTypes();
  const imported = await imports();
  const endpoint = await endpoints(app, eventType);
  const told = await operational();
  const { message, secret } = await messages(app, endpoint, eventType);
  await reads(app, message);
  await attempts(app, endpoint, message);
  await resend(app, endpoint, message);
  await example(app, endpoint, imported, secret);
  await precheck(app, eventType);
  const failed = await again(app, endpoint, eventType, message, told.secret);
  await statistics(app, eventType);
  await rotation(app, endpoint, eventType, secret);
  await tokens(app);
  await erases(app, endpoint, message, failed);
  await ends(app, endpoint, told.uid);
  console.log(`svix ${version}: ${count()} checks`);
} catch (error) {
  console.error(`svix ${version}: ${error.stack}`);
  process.exitCode = 1;
} finally {
  receiver.stop();
}
