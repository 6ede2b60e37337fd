// The texts for values of the API: times, numbers, states.

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** Formats a duration in one or two units. */
export function duration(seconds) {
  const total = Math.max(0, Math.round(seconds));
  const first = UNITS.findIndex(([, length]) => total >= length);
  if (first < 0) {
    return "0 s";
  }
  const [name, length] = UNITS[first];
  const next = UNITS[first + 1];
  const remainder = next && first < 2 ? Math.floor((total % length) / next[1]) : 0;
  return `${Math.floor(total / length)} ${name}${remainder ? ` ${remainder} ${next[0]}` : ""}`;
}

/** Formats a time relative to the service's clock. */
export function ago(time, now) {
  const seconds = (Date.parse(now) - Date.parse(time)) / 1000;
  return seconds >= 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}

const TIME = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

/** Formats a time in the browser's locale. */
export function moment(time) {
  return TIME.format(new Date(time));
}

/** Formats a period in the browser's locale. A day that both times share appears once. */
export function period(from, to) {
  return TIME.formatRange(new Date(from), new Date(to));
}

/** Formats a number with its noun. */
export function counted(amount, noun) {
  return `${number(amount)} ${noun}${amount === 1 ? "" : "s"}`;
}

/** Formats a number, with a plus sign if the count stopped at its limit. */
export function number(count, max = Infinity) {
  return `${count.toLocaleString("en-US")}${count >= max ? "+" : ""}`;
}

/** Describes the result of the last attempt. */
export function answer(attempt) {
  if (!attempt) {
    return "not attempted yet";
  }
  return attempt.status ? `answered ${attempt.status}` : attempt.error ?? "no answer";
}

/** The text and the tone for a callback's state. */
export function callbackLabel(callback) {
  switch (callback.state) {
    case "active":
      return ["Delivering", "good"];
    case "failing":
      return [`Failing, ${callback.failures} failures in a row`, "warn"];
    case "probed":
      return [`Unreachable, ${callback.failures} failures in a row`, "bad"];
    default:
      return [callback.paused_by === "operator" ? "Paused by an operator" : "Paused: answered 410", "warn"];
  }
}

/** The tone for the state of a delivery or a message. */
export function toneOf(state) {
  const tones = { delivered: "good", sent: "good", failed: "bad", pending: "warn", waiting: "warn", unknown: "warn", sending: "warn" };
  return tones[state];
}

const CLOUD_ERRORS = {
  unreachable: "is unreachable",
  no_answer: "does not answer",
  throttled: "limits the request rate",
  unavailable: "is unavailable",
  credentials_refused: "refused the client id and secret",
  app_token_refused: "refused the AppJWT",
  undecodable: "sent an answer that cannot be read",
};

const REJECTIONS = {
  unknown_account: "the account in the path is not configured",
  account_header: "x-liveperson-account-id is missing or wrong",
  client_id: "x-liveperson-client-id is missing or wrong",
  signature_missing: "x-liveperson-signature is missing",
  signature_malformed: "x-liveperson-signature is malformed",
  signature_wrong: "wrong signature: compare client_secret",
  too_large: "the body is too large",
  incomplete: "the body was not complete after 5 seconds",
  not_json: "the body is not JSON",
  no_changes: "the body holds no changes",
  not_understood: "changes of an unknown type or shape",
  too_old: "older than 4 days, or typing indicators older than 5 minutes",
};

/** The reason for which a notification was not used. */
export function rejection(reason) {
  return REJECTIONS[reason] ?? reason.replaceAll("_", " ");
}

/** The text for an error of the Cloud. */
export function cloudError(code) {
  return CLOUD_ERRORS[code] ?? code.replaceAll("_", " ");
}
