// What the Label page asks of the server, and what its tab remembers.

import { addressOf } from "../shared/address.js";

const TIMEOUT = 30_000;                              // milliseconds until a request counts as lost
const MODEL_TIMEOUT = 300_000;                       // milliseconds; a large model on a slow machine may need minutes
const BACKOFF = [500, 1000, 2000, 4000, 8000, 15000];  // milliseconds before each new attempt; the last one repeats

// `code` is "network" where no proper answer came: the request may or may not have arrived.
class RequestError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export async function call(name, body, options = {}) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response, answer;
  try {
    response = await fetch(addressOf(`api/label/${name}`), {
      cache: "no-store",
      credentials: "same-origin",
      signal: AbortSignal.timeout(options.timeout || TIMEOUT),
      ...(body ? post : {}),
      keepalive: Boolean(options.keepalive),
    });
    answer = await response.json();
  } catch {
    throw new RequestError("network", "the server can't be reached");
  }
  if (response.ok) return answer;
  const { code = "failed", message = "the server failed" } = answer.error || {};
  throw new RequestError(response.status >= 500 ? "network" : code, message);
}

// Until the server answers, with the same body: for requests that carry a token of their own.
export async function callUntilAnswered(name, body, onTrouble) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await call(name, body);
    } catch (error) {
      if (error.code !== "network") throw error;
      onTrouble(error);
      await new Promise((resolve) => setTimeout(resolve, BACKOFF[Math.min(attempt, BACKOFF.length - 1)]));
    }
  }
}

export const askModel = (token) => call("compare", { turn: token }, { timeout: MODEL_TIMEOUT });

// When this person's day began, for "done today".
export function midnight() {
  const now = new Date();
  return new Date(now.getFullYear(), now.getMonth(), now.getDate()).toISOString();
}

// Storage may be switched off in a private window; then the server's draft has to do.
export const memory = {
  get(key) { try { return JSON.parse(sessionStorage.getItem(`descore-label:${key}`)); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(`descore-label:${key}`, JSON.stringify(value)); } catch { /* see above */ } },
  drop(key) { try { sessionStorage.removeItem(`descore-label:${key}`); } catch { /* see above */ } },
};
