// The bridge's facade, as the page of a channel calls it: straight from the browser, with a token of one user, and with
// an Idempotency-Key for each POST, so that what is sent again after a lost answer is not done twice.

import { pause } from "./dom.js";

/** How often a request is sent in all before its failure is shown. */
const TRIES = 5;

/** Milliseconds: a token that ends sooner than that is renewed first. */
const RENEW_BEFORE = 60_000;

/** Why a request was not done: a problem of the facade (RFC 9457), or that nobody answered. */
export class Problem extends Error {
  constructor({ status = 0, title, detail, code = "", retryable = false, after = null }) {
    super(title);
    this.name = "Problem";
    Object.assign(this, { status, title, detail, code, retryable, after });
  }

  /** The whole of it in one line. */
  toString() {
    return [this.title, this.detail].filter(Boolean).join(": ");
  }

  /** What a response that is no success says. */
  static async of(response) {
    const body = await response.json().catch(() => ({}));
    const seconds = Number(response.headers.get("retry-after") ?? NaN);
    return new Problem({
      status: response.status,
      title: body.title ?? `The bridge answered ${response.status}`,
      detail: body.detail,
      code: body.code,
      retryable: body.retryable ?? false,
      after: Number.isFinite(seconds) ? seconds * 1000 : null,
    });
  }
}

/** Tokens that the demo makes, as a channel's own server would for its signed-in users. */
export class DemoTokens {
  #token = null;
  #ends = 0;

  constructor(user) {
    this.user = user;
  }

  async token(anew = false) {
    if (anew || this.#ends - Date.now() < RENEW_BEFORE) {
      const response = await fetch("/_demo/tokens", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ user: this.user }),
      });
      if (!response.ok) throw await Problem.of(response);
      const { token, expires_at: ends } = await response.json();
      this.#token = token;
      this.#ends = Date.parse(ends);
    }
    return this.#token;
  }
}

/** The one token that was entered by hand. */
export class GivenToken {
  constructor(token) {
    this.given = token;
  }

  async token() {
    return this.given;
  }
}

/** The facade for one user. */
export class Facade {
  #tokens;

  constructor(url, user, tokens) {
    this.url = url.replace(/\/$/, "");
    this.user = user;
    this.#tokens = tokens;
  }

  /** The path of something of the user's. */
  of(...parts) {
    return ["/v1/users", encodeURIComponent(this.user), ...parts].join("/");
  }

  /**
   * Sends a request until it is done or refused for good. `body` is JSON or a form; `key` makes a repeat of a POST safe, other
   * methods are safe by themselves.
   */
  async call(method, path, { body, key, tries = TRIES } = {}) {
    // Written once: a repeat under the same key must be the same byte by byte.
    const content = body === undefined || body instanceof FormData ? body : JSON.stringify(body);
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(method, path, content, key);
      } catch (problem) {
        const safe = method !== "POST" || key !== undefined;
        if (!(problem.retryable && safe && attempt < tries)) throw problem;
        await pause(problem.after ?? 400 * 2 ** (attempt - 1));
      }
    }
  }

  /** The response to a request with a token that is good; for a stream, or for bytes. */
  async fetch(path, options = {}) {
    for (const anew of [false, true]) {
      const token = await this.#token(anew);
      const headers = { ...options.headers, authorization: `Bearer ${token}` };
      const response = await reach(this.url + path, { ...options, headers });
      if (response.ok) return response;
      const problem = await Problem.of(response);
      if (problem.status !== 401 || anew) throw problem;
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

  async #token(anew) {
    try {
      return await this.#tokens.token(anew);
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

/** A browser does not tell a page why: the bridge may be away, or may not let pages of this origin read its answers. */
function unreachable(error) {
  return new Problem({
    title: "The bridge does not answer",
    detail: `it is away, or its cors_origins lack ${location.origin} (${error.message})`,
    retryable: true,
  });
}
