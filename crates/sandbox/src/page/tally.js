// The check that nothing is lost. It compares the user's messages with those in the Cloud, the
// agents' messages with those that the user received, and the events sent to the callback with
// those that it accepted.

import { isMessage, isOfConsumer } from "./cloud.js";
import { byId } from "./dom.js";

/** The type of an event that reports typing, in a body. Quotes in a text would be escaped. */
const TYPING = /"type":"typing\.changed"/;

/** The line with the counts. */
export class Tally {
  /** True if everything that was written has arrived, once. */
  isWhole = false;

  /** The ids of events that were sent to the callback, and of those that it accepted. */
  #sent = new Set();
  #accepted = new Set();

  /** Counts an exchange in the traffic. Typing is left out, since it is not delivered late. */
  record({ kind, status, request }) {
    const id = request.headers?.["webhook-id"];
    if (kind !== "event" || !id || TYPING.test(request.body)) return;
    this.#sent.add(id);
    if (status >= 200 && status < 300) this.#accepted.add(id);
  }

  /** Shows the counts. `thread` is the user's thread, or null. */
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
      sent: this.#sent.size,
      accepted: this.#accepted.size,
    };
    for (const [name, count] of Object.entries(counts)) byId(`tally-${name}`).textContent = count;
    byId("tally-failed-part").hidden = failed === 0;
    byId("tally-callback").hidden = this.#sent.size === 0;
    this.isWhole = counts.written === ofUser && counts["of-agent"] === counts.arrived
      && this.#sent.size === this.#accepted.size;
    // A channel that gets no echoes does not learn what its user writes elsewhere, nor does the
    // page.
    const isMore = ofUser > counts.written + failed;
    const verdict = byId("tally-verdict");
    verdict.dataset.whole = this.isWhole;
    if (this.isWhole) verdict.textContent = "Nothing lost, nothing doubled.";
    else verdict.textContent = isMore ? "The user also wrote elsewhere." : "Some messages are still in transit.";
  }
}
