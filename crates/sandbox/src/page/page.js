// The page of `demo` and `sandbox`: a user's phone on one side, an agent's workspace on the other,
// and below them the traffic. This file combines the parts; each part knows its own elements.

import { Agent } from "./agent.js";
import { Cloud } from "./cloud.js";
import { byId, gathered, make, showText } from "./dom.js";
import { Faults } from "./faults.js";
import { Tally } from "./tally.js";
import { User } from "./user.js";
import { Wire } from "./wire.js";

/** The time in which changes are gathered for one count, in milliseconds. */
const GATHER = 100;

async function start() {
  const cloud = new Cloud();
  const { mode, bridge } = await cloud.request("GET", "/_sandbox/page/settings");
  byId("mode").textContent = mode;
  if (bridge) {
    byId("links").append(make("a", { href: `${bridge.url}/docs/`, text: "API documentation" }));
  }

  const user = new User(bridge);
  const tally = new Tally();
  const faults = new Faults(cloud, mode === "demo");
  new Agent(cloud);
  const wire = new Wire();

  const count = gathered(async () => tally.show(user.thread, cloud.conversations), GATHER);
  user.addEventListener("change", count);
  cloud.addEventListener("change", count);
  // Every change shows up in the traffic first.
  wire.addEventListener("entry", ({ detail }) => {
    tally.record(detail);
    cloud.refreshSoon();
    faults.refreshSoon();
    count();
  });
  await cloud.refreshSoon();
}

start().catch((error) => showText(byId("page-error"), `The page cannot start: ${error.message}`));
