// The six steps of the guided tour. Each does something for real, as a person could do it on the
// page.

/** The states of a message that the Cloud has. */
const ARRIVED = ["sent", "delivered", "read"];

/** The messages that the user writes while the Cloud is unavailable. */
const QUEUED = ["Are you still there?", "It was due yesterday.", "Please hurry!"];

/**
 * Returns the steps. `act` performs a step, and returns the condition that ends it. `parts` are the
 * elements to look at; the page scrolls to the first one. `text` says what happens, `waiting` what
 * a long step waits for, and `outcome` what has happened.
 */
export function stepsOf({ cloud, user, agent, faults, tally }) {
  let queued = [];
  return [
    {
      title: "A message goes out",
      text: "The user writes. The phone calls the bridge's API, and the bridge sends the message to the Cloud.",
      parts: ["#user-log", "#wire"],
      act: async () => {
        const message = user.compose("Where is my parcel?");
        return () => hasArrived(message);
      },
      waiting: "Waiting for the Cloud's answer.",
      outcome: "Sent: the Cloud has the message. The traffic shows each request on its way.",
    },
    {
      title: "A reply comes back",
      text: "The agent answers. The Cloud notifies the bridge, which reports the message to the channel as an event.",
      parts: ["#agent-log", "#user-log"],
      act: async () => {
        const { arrived, conversation } = user.thread;
        agent.select(conversation.id);
        await cloud.act(conversation.id, { type: "text", text: "It arrives tomorrow." });
        return () => user.thread.arrived > arrived;
      },
      waiting: "Waiting for the event.",
      outcome: "Received: the user reads the reply on the phone.",
    },
    {
      title: "The Cloud fails",
      text: "From now on, the simulated Cloud answers every request with 503.",
      parts: ["[data-fault=away]"],
      act: async () => {
        await faults.start("away");
        return () => faults.isActive("away");
      },
      waiting: "Waiting for the fault.",
      outcome: "Unavailable: the bridge can send nothing until the Cloud works again.",
    },
    {
      title: "Messages are queued",
      text: "The user goes on writing. The bridge stores the messages in its database, and answers 202.",
      parts: ["#user-log", "#wire"],
      act: async () => {
        queued = QUEUED.map((text) => user.compose(text));
        return () => queued.every((message) => hasArrived(message) || stateOf(message) === "queued");
      },
      waiting: "Waiting for the bridge's answers.",
      outcome: `Queued: ${QUEUED.length} messages wait in the bridge, in the order in which they were written.`,
    },
    {
      title: "The Cloud works again",
      text: "The fault is turned off. The bridge sends the queued messages one after the other.",
      parts: ["#agent-log", "#user-log"],
      act: async () => {
        await faults.stop("away");
        return () => queued.every(hasArrived);
      },
      waiting: "The bridge sends them with its next attempt. After a long outage, that can take half a minute.",
      outcome: "Sent: the agent has all messages, in the right order.",
    },
    {
      title: "Nothing lost, nothing doubled",
      text: "The tally compares what both sides have written with what has arrived.",
      parts: ["#tally"],
      act: async () => () => tally.isWhole,
      waiting: "Waiting for the last event.",
      outcome: "Each message has arrived exactly once. Try the other faults, too.",
    },
  ];
}

const stateOf = ({ item }) => item.dataset.state;

/** True if the Cloud has a message. Throws the reason if it cannot be sent. */
function hasArrived(message) {
  if (stateOf(message) === "failed") throw new Error(`The message ${message.item.querySelector(".state").textContent}`);
  return ARRIVED.includes(stateOf(message));
}
