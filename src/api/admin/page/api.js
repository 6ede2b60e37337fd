// Calls to the admin API. The operator's key stays in this tab and is sent only with actions.

const KEY = "operator-key";

/** 5 s: a service that takes longer to answer a read counts as unavailable. */
const PATIENCE = 5000;

/** An error that the service answered, or a missing answer (status 0). */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? "The service does not answer.");
    this.status = status;
    this.code = problem?.code;
    this.requestId = problem?.request_id;
    this.errors = problem?.errors ?? [];
  }

  /** The text to show for the error. */
  get words() {
    const named = this.errors.map(({ pointer, detail }) => `${pointer.slice(1)}: ${detail}`);
    return named.length > 0 ? named.join("; ") : this.message;
  }
}

/** The operator's key, or null if this tab has none. */
export function key() {
  return sessionStorage.getItem(KEY);
}

/** Stores a key in this tab, or removes it. */
export function keepKey(text) {
  if (text) {
    sessionStorage.setItem(KEY, text);
  } else {
    sessionStorage.removeItem(KEY);
  }
}

/** Reads from the API. */
export function look(path) {
  return ask(path, { signal: AbortSignal.timeout(PATIENCE) });
}

/** Performs an action, with the key. */
export function act(path, body = {}) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${key()}` },
    body: JSON.stringify(body),
  });
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(`/api/${path}`, { cache: "no-store", credentials: "omit", ...options });
  } catch {
    throw new Refusal(0);
  }
  const body = await answer.json().catch(() => undefined);
  if (!answer.ok) {
    throw new Refusal(answer.status, body);
  }
  return body;
}
