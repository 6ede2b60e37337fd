// Words for what the API says: times, numbers, states.

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** A length of time in one or two units. */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const first = UNITS.findIndex(([, length]) => whole >= length);
  if (first < 0) {
    return "0 s";
  }
  const [name, length] = UNITS[first];
  const next = UNITS[first + 1];
  const rest = next && first < 2 ? Math.floor((whole % length) / next[1]) : 0;
  return `${Math.floor(whole / length)} ${name}${rest ? ` ${rest} ${next[0]}` : ""}`;
}

/** How long ago something was, by the service's own clock. */
export function ago(time, now) {
  const seconds = (Date.parse(now) - Date.parse(time)) / 1000;
  return seconds >= 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
}

/** A moment as this computer's user writes it. */
export function moment(time) {
  return new Date(time).toLocaleString(undefined, {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
  });
}

/** A number, with a plus where nothing was counted any further. */
export function number(count, most = Infinity) {
  return `${count.toLocaleString("en-US")}${count >= most ? "+" : ""}`;
}

/** What the last try came to. */
export function answer(attempt) {
  if (!attempt) {
    return "never tried";
  }
  return attempt.status ? `answered ${attempt.status}` : attempt.error ?? "no answer";
}

/** Words and tone of a callback's state. */
export function callbackWords(callback) {
  switch (callback.state) {
    case "active":
      return ["Delivering", "good"];
    case "failing":
      return [`Failing, ${callback.failures} in a row`, "warn"];
    case "probed":
      return [`Away, ${callback.failures} failures in a row`, "bad"];
    default:
      return [callback.paused_by === "operator" ? "Paused by an operator" : "Paused: answered 410", "warn"];
  }
}

/** The tone of what became of a delivery or of a message. */
export function toneOf(state) {
  const tones = { delivered: "good", sent: "good", failed: "bad", pending: "warn", waiting: "warn", unknown: "warn", sending: "warn" };
  return tones[state];
}

const TROUBLES = {
  unreachable: "cannot be reached",
  no_answer: "does not answer",
  throttled: "is throttling",
  unavailable: "cannot serve",
  credentials_refused: "refused the client id and secret",
  app_token_refused: "refused the AppJWT",
  undecodable: "answered what cannot be read",
};

const REJECTIONS = {
  unknown_account: "the account in the path is not configured",
  account_header: "x-liveperson-account-id is missing or wrong",
  client_id: "x-liveperson-client-id is missing or wrong",
  signature_missing: "x-liveperson-signature is missing",
  signature_malformed: "x-liveperson-signature is malformed",
  signature_wrong: "the signature is wrong: compare client_secret",
  too_large: "the body is too large",
  incomplete: "the body did not come whole within 5 seconds",
  not_json: "the body is not JSON",
  no_changes: "the body holds no changes",
  not_understood: "changes of an unknown type or shape",
  too_old: "older than 4 days, or signs of typing older than 5 minutes",
};

/** The reason why a notification of the Cloud was not taken. */
export function rejection(word) {
  return REJECTIONS[word] ?? word.replaceAll("_", " ");
}

/** What went wrong at the Cloud. */
export function trouble(word) {
  return TROUBLES[word] ?? word.replaceAll("_", " ");
}
