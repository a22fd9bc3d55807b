// The pairs that were judged in this browser. `props.value` is {owner, entry}: whose list it is, and a judgement that is new. A click
// on one triggers 'reopen' with it. The list is kept here and nowhere else; see app/judge/history.py.

import { dateText } from "../shared/dates.js";
import { addressOf } from "../shared/address.js";
import { listen, make, setText } from "../shared/dom.js";

const KEY = "descore-history";
const MOST = 300;
const MODES = { think: "with a thought", quick: "quick", k: "several thoughts" };

const same = (one, other) => ["owner", "a", "b", "prompt", "mode", "k"].every((name) => one[name] === other[name]);

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) || "[]");
    return Array.isArray(kept) ? kept.filter((entry) => entry && typeof entry.prompt === "string") : [];
  } catch {
    return [];
  }
}

function write(entries) {
  try {
    localStorage.setItem(KEY, JSON.stringify(entries.slice(0, MOST)));
  } catch { /* a full or closed store: the list goes without this one */ }
}

function poster(id) {
  const image = new Image();
  image.src = addressOf(`clips/${encodeURIComponent(id)}/poster`);
  image.alt = "";
  image.loading = "lazy";
  return image;
}

function line(entry, reopen) {
  const at = new Date(entry.at);
  const when = Number.isNaN(at.getTime()) ? "" : dateText(at);
  const facts = [entry.bundled ? "" : "own videos", MODES[entry.mode] || "", when].filter(Boolean).join(" \u00b7 ");
  const verdict = make("b", "history-verdict", entry.headline || "");
  verdict.dataset.verdict = entry.verdict || "";
  const button = make(
    "button", "history-entry",
    make("span", "history-pictures", poster(entry.a), poster(entry.b)),
    make("span", "history-text", make("span", "history-prompt", entry.prompt), verdict, make("small", "", facts)),
  );
  button.type = "button";
  button.addEventListener("click", () => reopen(entry));
  return make("li", "", button);
}

export function mount({ element, props, trigger, watch }) {
  const dialog = element.querySelector("dialog");
  const search = dialog.querySelector(".history-search");
  let owner = "";

  const own = () => read().filter((entry) => (entry.owner || "") === owner);

  function reopen({ a, b, bundled, prompt, mode, k }) {
    dialog.close();
    trigger("reopen", { a, b, bundled, prompt, mode, k });
  }

  function paint() {
    const wanted = search.value.trim().toLowerCase();
    const entries = own();
    const found = entries.filter((entry) => entry.prompt.toLowerCase().includes(wanted));
    dialog.querySelector(".history-list").replaceChildren(...found.map((entry) => line(entry, reopen)));
    const nothing = entries.length ? "No prompt has these words." : "Nothing was judged here yet.";
    setText(dialog.querySelector(".history-nothing"), found.length ? "" : nothing);
    dialog.querySelector(".history-forget").hidden = !entries.length;
  }

  function show() {
    const value = props.value || {};
    owner = value.owner || "";
    if (value.entry) {
      const entry = { ...value.entry, owner };
      write([entry, ...read().filter((other) => !same(other, entry))]);
    }
    if (dialog.open) paint();
  }

  function forget() {
    write(read().filter((entry) => (entry.owner || "") !== owner));
    paint();
  }

  listen(element, "descore:history", () => { search.value = ""; paint(); dialog.showModal(); });
  dialog.querySelector(".history-close").addEventListener("click", () => dialog.close());
  dialog.querySelector(".history-forget").addEventListener("click", forget);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  search.addEventListener("input", paint);
  watch("value", show);
  show();
}
