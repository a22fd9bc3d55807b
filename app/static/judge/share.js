// The line with the link to the pair. `props.value` is what `share_view` returns. A click triggers 'make_link' or 'end_link'.

import { addressOf } from "../shared/address.js";
import { localText } from "../shared/dates.js";
import { copyField, setText } from "../shared/dom.js";

const TITLES = {
  link: () => "Link to this pair",
  ready: () => "Everybody with the link sees videos, prompt and verdict, for 30 days.",
  made: ({ until }) => `Open to everybody with the link, until ${localText(until)}`,
  open: ({ until }) => `You shared this pair; the link is open until ${localText(until)}.`,
  shared: ({ until }) => `You shared this pair; the link is open until ${localText(until)}.`,
};

// A link that was followed stays in the address as long as the page shows its pair.
function keepInAddress(query) {
  if (query !== null && query !== undefined && location.search !== query) {
    history.replaceState(history.state, "", location.pathname + query + location.hash);
  }
}

export function mount({ element, props, trigger, watch }) {
  const line = element.querySelector(".share");
  const part = (name) => line.querySelector(`.share-${name}`);
  const [title, link, copy, make, end, status] = ["title", "link", "copy", "make", "end", "status"].map(part);

  function show() {
    const value = props.value || {};
    const { state = "none", path = "", own = false } = value;
    line.hidden = (state === "none" || (state === "shared" && !own)) && !value.status;
    line.dataset.state = state;
    line.classList.remove("is-sending");
    setText(title, TITLES[state] ? TITLES[state](value) : "");
    const address = path ? addressOf(path) : "";
    if (link.value !== address) setText(copy, "Copy link");  // "Copied" stays as long as it is true
    link.value = address;
    link.hidden = state !== "made";
    copy.hidden = !path;
    make.hidden = state !== "ready";
    end.hidden = !(own && ["made", "open", "shared"].includes(state));
    setText(status, value.status || "");
    keepInAddress(value.query);
  }

  function send(event) {
    line.classList.add("is-sending");
    trigger(event, {});
  }

  copy.addEventListener("click", async () => setText(copy, await copyField(link) ? "Copied" : "Press Ctrl+C"));
  make.addEventListener("click", () => send("make_link"));
  end.addEventListener("click", () => send("end_link"));
  link.addEventListener("focus", () => link.select());
  watch("value", show);
  show();
}
