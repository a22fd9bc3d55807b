// The strip of pairs. `props.value` is {pairs: [{id, prompt, a, b}], selected: id, own}, where a and b are addresses of pictures and
// own says that videos of one's own are chosen. A click on a card triggers 'select' with its id; the first card opens the panel for
// one's own videos.

import { isFreeKey, listen, make } from "../shared/dom.js";

function picture(address) {
  const image = new Image();
  image.src = address;
  image.alt = "";
  image.loading = "lazy";
  return image;
}

function card(pair, select) {
  const pictures = make("span", "gallery-pictures", picture(pair.a), picture(pair.b));
  const button = make("button", "gallery-card", pictures, make("span", "gallery-prompt", pair.prompt));
  button.type = "button";
  button.dataset.id = pair.id;
  button.title = pair.prompt;
  button.addEventListener("click", () => select(pair.id));
  return button;
}

export function mount({ element, props, trigger, watch }) {
  const strip = element.querySelector(".gallery");
  const own = strip.querySelector(".gallery-own");
  const random = element.querySelector(".gallery-random");
  const select = (id) => trigger("select", { id });
  const cards = () => [...strip.querySelectorAll("[data-id]")];

  // A pair that a person has not just seen, if there is another one.
  function selectRandom() {
    const others = cards().filter((button) => button.getAttribute("aria-pressed") !== "true");
    if (!others.length) return;
    const chosen = others[Math.floor(Math.random() * others.length)];
    chosen.scrollIntoView({ block: "nearest", inline: "center" });
    select(chosen.dataset.id);
  }

  function show() {
    const { pairs = [], selected = null, own: isOwn = false } = props.value || {};
    if (cards().length !== pairs.length) strip.replaceChildren(own, ...pairs.map((pair) => card(pair, select)));
    cards().forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.id === selected)));
    own.setAttribute("aria-pressed", String(isOwn));
    random.disabled = pairs.length < 2;
  }

  const openHistory = () => document.dispatchEvent(new CustomEvent("descore:history"));

  own.addEventListener("click", () => document.dispatchEvent(new CustomEvent("descore:own")));
  random.addEventListener("click", selectRandom);
  element.querySelector(".gallery-history").addEventListener("click", openHistory);
  const openBatch = () => document.dispatchEvent(new CustomEvent("descore:batch"));
  element.querySelector(".gallery-batch").addEventListener("click", openBatch);
  const keys = { n: selectRandom, h: openHistory, m: openBatch, j: () => document.querySelector("#judge")?.click() };
  listen(element, "keydown", (event) => {
    const act = isFreeKey(event) && keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
  watch("value", show);
  show();
}
