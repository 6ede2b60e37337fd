// Calls to the admin API. The operator's key stays in this tab and is sent only with actions.

const KEY = "operator-key";

/** 5 s: a service that takes longer to answer a read counts as unavailable. */
const TIMEOUT_MS = 5000;

/** An error response of the service, or a missing response (status 0). */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? "The service does not answer.");
    this.status = status;
    this.code = problem?.code;
    this.requestId = problem?.request_id;
    this.errors = problem?.errors ?? [];
  }

  /** The text to show for the error. */
  get text() {
    const named = this.errors.map(({ pointer, detail }) => `${pointer.slice(1)}: ${detail}`);
    return named.length > 0 ? named.join("; ") : this.message;
  }
}

/** The operator's key, or null if this tab has none. */
export function key() {
  return sessionStorage.getItem(KEY);
}

/** Stores a key in this tab, or removes it. */
export function storeKey(text) {
  if (text) {
    sessionStorage.setItem(KEY, text);
  } else {
    sessionStorage.removeItem(KEY);
  }
}

/** Reads from the API. */
export function get(path) {
  return request(path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
}

/** Checks a key with the service; throws if the service refuses it or does not answer. */
export function check(text) {
  const headers = { Authorization: `Bearer ${text}` };
  return request("operator", { signal: AbortSignal.timeout(TIMEOUT_MS), headers });
}

/** Performs an action, with the key. */
export function post(path, body = {}) {
  return request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${key()}` },
    body: JSON.stringify(body),
  });
}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(`/api/${path}`, { cache: "no-store", credentials: "omit", ...options });
  } catch {
    throw new ApiError(0);
  }
  const body = await answer.json().catch(() => undefined);
  if (!answer.ok) {
    throw new ApiError(answer.status, body);
  }
  return body;
}
