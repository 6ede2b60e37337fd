// The bridge's API, as a channel's page calls it: directly from the browser, with a token of one
// user. Each POST has an Idempotency-Key, so that a retry after a lost answer is not carried out
// twice.

import { pause } from "./dom.js";

/** The number of attempts before the failure of a request is shown. */
const MAX_ATTEMPTS = 5;

/** The remaining lifetime at which a token is renewed, in milliseconds. */
const RENEW_BEFORE = 60_000;

/** The reason that a request failed: a problem of the API (RFC 9457), or no answer at all. */
export class Problem extends Error {
  constructor({ status = 0, title, detail, code = "", retryable = false, retryAfter = null, errors = [] }) {
    super(title);
    this.name = "Problem";
    Object.assign(this, { status, title, detail, code, retryable, retryAfter, errors });
  }

  /** Returns the problem in one line: its title, and what is wrong with this request. */
  toString() {
    const violations = this.errors.map(({ pointer, detail }) => `${pointer} ${detail}`).join("; ");
    return [this.title, violations || this.detail].filter(Boolean).join(": ");
  }

  /** Reads the problem from an error response. */
  static async of(response) {
    const body = await response.json().catch(() => ({}));
    const seconds = Number(response.headers.get("retry-after") ?? NaN);
    return new Problem({
      status: response.status,
      title: body.title ?? `The bridge answered ${response.status}`,
      detail: body.detail,
      code: body.code,
      retryable: body.retryable ?? false,
      errors: body.errors ?? [],
      retryAfter: Number.isFinite(seconds) ? seconds * 1000 : null,
    });
  }
}

/** Tokens that the demo issues, as a channel's own server does for its signed-in users. */
export class DemoTokens {
  #token = null;
  #expiresAt = 0;

  constructor(user) {
    this.user = user;
  }

  async token(renew = false) {
    if (renew || this.#expiresAt - Date.now() < RENEW_BEFORE) {
      const response = await fetch("/_demo/tokens", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ user: this.user }),
      });
      if (!response.ok) throw await Problem.of(response);
      const { token, expires_at: expiresAt } = await response.json();
      this.#token = token;
      this.#expiresAt = Date.parse(expiresAt);
    }
    return this.#token;
  }
}

/** The one token that the user entered by hand. */
export class EnteredToken {
  #token;

  constructor(token) {
    this.#token = token;
  }

  async token() {
    return this.#token;
  }
}

/** The API for one user. */
export class Api {
  #tokens;

  constructor(url, user, tokens) {
    this.url = url.replace(/\/$/, "");
    this.user = user;
    this.#tokens = tokens;
  }

  /** Returns the path of one of the user's resources. */
  path(...parts) {
    return ["/v1/users", encodeURIComponent(this.user), ...parts].join("/");
  }

  /**
   * Sends a request until it succeeds, is refused for good, or has failed `attempts` times. `body`
   * is JSON or a form. `key` makes retries of a POST safe; retries of other methods are safe without
   * it.
   */
  async call(method, path, { body, key, attempts = MAX_ATTEMPTS } = {}) {
    // Written once: a retry under the same key must be the same, byte for byte.
    const content = body === undefined || body instanceof FormData ? body : JSON.stringify(body);
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(method, path, content, key);
      } catch (problem) {
        const safe = method !== "POST" || key !== undefined;
        if (!(problem.retryable && safe && attempt < attempts)) throw problem;
        await pause(problem.retryAfter ?? 400 * 2 ** (attempt - 1));
      }
    }
  }

  /** Sends a request with a valid token and returns the response, for a stream or for bytes. */
  async fetch(path, options = {}) {
    for (const renew of [false, true]) {
      const token = await this.#token(renew);
      const headers = { ...options.headers, authorization: `Bearer ${token}` };
      const response = await reach(this.url + path, { ...options, headers });
      if (response.ok) return response;
      const problem = await Problem.of(response);
      if (problem.status !== 401 || renew) throw problem;
    }
  }

  async #once(method, path, body, key) {
    const headers = {};
    if (typeof body === "string") headers["content-type"] = "application/json";
    if (key !== undefined) headers["idempotency-key"] = key;
    const response = await this.fetch(path, { method, headers, body });
    const isJson = response.headers.get("content-type")?.includes("json");
    return { status: response.status, body: isJson ? await response.json() : null };
  }

  async #token(renew) {
    try {
      return await this.#tokens.token(renew);
    } catch (error) {
      throw error instanceof Problem ? error : unreachable(error);
    }
  }
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable(error);
  }
}

/**
 * Creates the problem for a missing answer. A browser does not tell a page the reason: the bridge
 * may be unreachable, or may not let pages of this origin read its answers.
 */
function unreachable(error) {
  return new Problem({
    title: "The bridge does not answer",
    detail: `it is unreachable, or its cors_origins do not include ${location.origin} (${error.message})`,
    retryable: true,
  });
}
