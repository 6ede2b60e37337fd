// That nothing is lost: what the user wrote against what the Cloud has, what agents wrote against what the user got, and
// what the callback was sent against what it took.

import { isMessage, isOfConsumer } from "./cloud.js";
import { byId } from "./dom.js";

/** The line with the counts. */
export class Tally {
  /** Ids of events that were sent to the callback, and of those that it took. */
  #told = new Set();
  #taken = new Set();

  /** Counts what passed on the wire. */
  note({ kind, status, request }) {
    const id = request.headers?.["webhook-id"];
    if (kind !== "event" || !id) return;
    this.#told.add(id);
    if (status >= 200 && status < 300) this.#taken.add(id);
  }

  /** Shows the counts; `thread` is the user's, if there is one. */
  show(thread, conversations) {
    byId("tally").hidden = thread === null;
    if (thread === null) return;
    const published = conversations.filter(({ id }) => thread.conversations.has(id))
      .flatMap(({ dialogs }) => dialogs.flatMap(({ events }) => events)).filter(isMessage);
    const ofUser = published.filter(isOfConsumer).length;
    const failed = thread.count("failed");
    const counts = {
      written: thread.own.length - failed,
      "at-cloud": ofUser,
      queued: thread.count("sending", "queued"),
      failed,
      "of-agent": published.length - ofUser,
      arrived: thread.arrived,
      told: this.#told.size,
      taken: this.#taken.size,
    };
    for (const [name, count] of Object.entries(counts)) byId(`tally-${name}`).textContent = count;
    byId("tally-failed-part").hidden = failed === 0;
    byId("tally-callback").hidden = this.#told.size === 0;
    const isWhole = counts.written === ofUser && counts["of-agent"] === counts.arrived
      && this.#told.size === this.#taken.size;
    // Where the channel is not told what its user wrote elsewhere, the page does not know of that.
    const isMore = ofUser > counts.written + failed;
    const verdict = byId("tally-verdict");
    verdict.dataset.whole = isWhole;
    if (isWhole) verdict.textContent = "Nothing is lost.";
    else verdict.textContent = isMore ? "The user wrote elsewhere as well." : "Some is still on its way.";
  }
}
