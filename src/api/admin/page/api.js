// Asking the service. The operator's key is kept by this tab alone, and sent with what acts and nothing else.

const KEY = "operator-key";

/** 5 s: a service that takes longer for a look is as good as away. */
const PATIENCE = 5000;

/** What the service refused, or that it did not answer (status 0). */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? "The service does not answer.");
    this.status = status;
    this.code = problem?.code;
    this.requestId = problem?.request_id;
    this.errors = problem?.errors ?? [];
  }

  /** All that is to be told of it. */
  get words() {
    const named = this.errors.map(({ pointer, detail }) => `${pointer.slice(1)}: ${detail}`);
    return named.length > 0 ? named.join("; ") : this.message;
  }
}

/** The operator's key, where this tab has one. */
export function key() {
  return sessionStorage.getItem(KEY);
}

/** Keeps a key in this tab, or forgets it. */
export function keepKey(text) {
  if (text) {
    sessionStorage.setItem(KEY, text);
  } else {
    sessionStorage.removeItem(KEY);
  }
}

/** Looks at something. */
export function look(path) {
  return ask(path, { signal: AbortSignal.timeout(PATIENCE) });
}

/** Does something, with the key. */
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
