// The strip of bundled pairs. `props.value` is {pairs: [{id, prompt, a, b}], selected: id}, where a and b are addresses of pictures.
// A click on a card triggers 'select' with its id.

import { make } from "../shared/dom.js";

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
  const select = (id) => trigger("select", { id });

  function show() {
    const { pairs = [], selected = null } = props.value || {};
    if (strip.childElementCount !== pairs.length) strip.replaceChildren(...pairs.map((pair) => card(pair, select)));
    [...strip.children].forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.id === selected)));
  }

  watch("value", show);
  show();
}
