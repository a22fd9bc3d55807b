// The Label page. The label*.js files are joined, in the order that app/label/page.py gives, into the body of ONE function
// that Gradio calls with `element`, so they share their names. This one: small helpers, and talking to the server.
//
// To the annotator the left video is A and the right one B. Which of the pair's videos stands left only the server knows:
// everything sent and received here says "left" and "right".

const root = element.querySelector(".label");
const pairRoot = element.querySelector(".pair");
const find = (selector, from = root) => from.querySelector(selector);
const all = (selector, from = root) => [...from.querySelectorAll(selector)];
const SIDES = ["left", "right"];
const LETTER = { left: "A", right: "B" };
const COLOUR = { left: "a", right: "b" };
// The page may be asked for with a slash at its end; addresses are counted from the page's folder.
const BASE = location.pathname.replace(/\/label\/?$/, "/");
const TIMEOUT = 30_000;                              // milliseconds until a request counts as lost
const BACKOFF = [500, 1000, 2000, 4000, 8000, 15000];  // milliseconds before each new attempt; the last one repeats

function make(tag, className, ...content) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...content.filter((part) => part !== null && part !== undefined));
  return node;
}

function button(text, key, act, className = "") {
  const node = make("button", className, text, key ? " " : null, key ? make("kbd", "", key) : null);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

const badge = (side) => make("b", `side-badge side-${COLOUR[side]}`, LETTER[side]);

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// A name for one submission: the server saves it once, however often it arrives.
function newToken() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// When this person's day began, for "done today".
function midnight() {
  const now = new Date();
  return new Date(now.getFullYear(), now.getMonth(), now.getDate()).toISOString();
}

// ---- the server --------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(code, message) { super(message); this.code = code; }
}

// `code` is "network" where no proper answer came: the request may or may not have arrived.
async function call(name, body, options = {}) {
  const url = `${BASE}api/label/${name}`;
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response, answer;
  try {
    response = await fetch(url, {
      cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(options.timeout || TIMEOUT),
      ...(body ? post : {}), keepalive: Boolean(options.keepalive),
    });
    answer = await response.json();
  } catch (error) {
    throw new Refused("network", "the server can't be reached");
  }
  if (response.ok) return answer;
  const { code = "failed", message = "the server failed" } = answer.error || {};
  throw new Refused(response.status >= 500 ? "network" : code, message);
}

// Until the server answers, with the same body: for requests that carry a token of their own.
async function callUntilAnswered(name, body, onTrouble) {
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

// ---- what this tab remembers -------------------------------------------------------------------------------------

// Storage may be switched off in a private window; then the server's draft has to do.
const memory = {
  get(key) { try { return JSON.parse(sessionStorage.getItem(`descore-label:${key}`)); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(`descore-label:${key}`, JSON.stringify(value)); } catch { /* see above */ } },
  drop(key) { try { sessionStorage.removeItem(`descore-label:${key}`); } catch { /* see above */ } },
};
