// The page of `demo` and `sandbox`: a user's phone and an agent's workspace, with the traffic
// beside them and the faults below. This file combines the parts; each part knows its own elements.

import { Agent } from "./agent.js";
import { Cloud } from "./cloud.js";
import { byId, gathered, make, showText } from "./dom.js";
import { Faults } from "./faults.js";
import { Tally } from "./tally.js";
import { Tour } from "./tour.js";
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
  const agent = new Agent(cloud);
  const wire = new Wire();
  new Tour({ cloud, user, agent, faults, tally });

  const count = gathered(async () => {
    tally.show(user.thread, cloud.conversations);
    if (!user.thread?.count("queued")) faults.settle();
  }, GATHER);
  user.addEventListener("change", count);
  cloud.addEventListener("change", count);
  // A message that is held back uses up a fault without any traffic.
  cloud.addEventListener("change", () => faults.refreshSoon());
  agent.addEventListener("script", () => user.suggest(agent.isScripted()));
  faults.addEventListener("off", ({ detail }) => {
    if (detail === "away") user.resume();
  });
  // Every other change shows up in the traffic first.
  wire.addEventListener("entry", ({ detail }) => {
    tally.record(detail);
    cloud.refreshSoon();
    faults.refreshSoon();
    count();
  });
  await cloud.refreshSoon();
}

start().catch((error) => showText(byId("page-error"), `The page cannot start: ${error.message}`));
