// The guided tour: six steps, each of which is done for real at a click. It can be left at any
// time, and then leaves the page as it was.

import { byId, pause, showText } from "./dom.js";
import { stepsOf } from "./steps.js";

/** The interval at which a step is checked for its end, in milliseconds. */
const CHECK_INTERVAL = 100;

/** The time after which a step says what it waits for, in milliseconds. */
const PATIENCE = 3_000;

/** The name of the class of the parts to look at. */
const HIGHLIGHT = "highlight";

/** The panel before the first step. */
const INTRODUCTION = {
  title: "Six steps in one minute",
  text: "You see messages pass, the Cloud fail, and nothing get lost. Each click on Next does the next step for real.",
  parts: [],
};

/** The tour, with the panel that shows its steps. */
export class Tour {
  #stage;
  #steps = [];
  /** The number of steps that were done. */
  #done = 0;
  /** The end of the present tour; null if there is none. */
  #leaving = null;
  /** The end of the step in progress; null if there is none. */
  #running = null;
  /** The end of the cleanup after the last tour. */
  #cleanup = Promise.resolve();
  /** The agent's script before the first step; null if it need not be restored. */
  #formerScript = null;

  /** Creates the tour. `stage` has the parts of the page. */
  constructor(stage) {
    this.#stage = stage;
    const offer = () => {
      byId("tour-start").hidden = stage.user.thread === null;
    };
    stage.user.addEventListener("change", offer);
    offer();
    byId("tour-start").addEventListener("click", () => this.#begin());
    byId("tour-next").addEventListener("click", () => this.#advance());
    byId("tour-leave").addEventListener("click", () => this.#leave());
    document.addEventListener("keydown", ({ key }) => {
      if (key === "Escape" && !document.querySelector("dialog[open]")) this.#leave();
    });
    addEventListener("pagehide", () => this.#restore());
  }

  async #begin() {
    await this.#cleanup;
    if (!this.#leaving) {
      this.#leaving = new AbortController();
      this.#steps = stepsOf(this.#stage);
      this.#done = 0;
      this.#show("Guided tour", INTRODUCTION);
      byId("tour-next").textContent = "Next";
      byId("tour").hidden = false;
      document.documentElement.classList.add("touring");
    }
    byId("tour-next").focus();
  }

  /** Does the next step, or ends the tour after the last one. */
  #advance() {
    if (this.#running) return;
    if (this.#done === this.#steps.length) this.#leave();
    else this.#running = this.#run(this.#steps[this.#done], this.#leaving.signal);
  }

  #leave() {
    if (!this.#leaving) return;
    this.#leaving.abort();
    this.#leaving = null;
    byId("tour").hidden = true;
    document.documentElement.classList.remove("touring");
    highlight([]);
    byId("tour-start").focus();
    // A request of the step could otherwise come after the cleanup.
    this.#cleanup = Promise.resolve(this.#running).then(() => this.#restore()).catch(() => {});
  }

  async #run(step, signal) {
    this.#show(`Step ${this.#done + 1} of ${this.#steps.length}`, step);
    byId("tour-next").setAttribute("aria-disabled", "true");
    const patience = setTimeout(() => showOutcome(step.waiting), PATIENCE);
    try {
      await this.#prepare();
      const isOver = await step.act();
      while (!signal.aborted && !isOver()) await pause(CHECK_INTERVAL, signal);
      showOutcome(step.outcome);
      this.#done += 1;
      if (this.#done === this.#steps.length) byId("tour-next").textContent = "Finish";
    } catch (error) {
      showText(byId("tour-error"), `${error.message}. Next tries this step again.`);
    }
    clearTimeout(patience);
    byId("tour-next").removeAttribute("aria-disabled");
    this.#running = null;
  }

  /** Turns off the faults, and the scripted agent, who would answer before the tour does. */
  async #prepare() {
    if (this.#formerScript) return;
    const { agent, faults } = this.#stage;
    await faults.stopAll();
    this.#formerScript = agent.script;
    await agent.use({ script: "none" });
  }

  /** Undoes what the steps have done, so that everything works as before. */
  async #restore() {
    if (!this.#formerScript) return;
    const { agent, faults, user } = this.#stage;
    const restored = [faults.stopAll(), agent.use(this.#formerScript)];
    this.#formerScript = null;
    await Promise.all(restored);
    user.resume();
  }

  #show(step, { title, text, parts }) {
    byId("tour-step").textContent = step;
    byId("tour-title").textContent = title;
    byId("tour-text").textContent = text;
    showOutcome("");
    showText(byId("tour-error"), null);
    highlight(parts);
  }
}

/** Shows the outcome of a step. Its element is never hidden, so screen readers notice a change. */
function showOutcome(text) {
  byId("tour-outcome").textContent = text;
}

/** Highlights the elements with these selectors alone, and scrolls to the first one. */
function highlight(selectors) {
  for (const part of document.querySelectorAll(`.${HIGHLIGHT}`)) part.classList.remove(HIGHLIGHT);
  const parts = selectors.map((selector) => document.querySelector(selector));
  for (const part of parts) part.classList.add(HIGHLIGHT);
  parts[0]?.scrollIntoView({ block: "nearest" });
}
