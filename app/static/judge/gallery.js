// The strip of bundled pairs. Runs once, as the body of a function that Gradio calls with `element`, `props`, `trigger` and
// `watch`. `props.value` is {pairs: [{id, prompt, a, b}], selected: id}, where a and b are addresses of pictures.
// A card that is chosen triggers 'select' with its id.

const strip = element.querySelector(".gallery");

function card(pair) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "gallery-card";
  button.dataset.id = pair.id;
  const pictures = document.createElement("span");
  pictures.className = "gallery-pictures";
  [pair.a, pair.b].forEach((address) => {
    const picture = new Image();
    picture.src = address;
    picture.alt = "";
    picture.loading = "lazy";
    pictures.append(picture);
  });
  const prompt = document.createElement("span");
  prompt.className = "gallery-prompt";
  prompt.textContent = pair.prompt;
  button.append(pictures, prompt);
  button.title = pair.prompt;
  button.addEventListener("click", () => trigger("select", { id: pair.id }));
  return button;
}

function show() {
  const { pairs = [], selected = null } = props.value || {};
  if (strip.childElementCount !== pairs.length) strip.replaceChildren(...pairs.map(card));
  [...strip.children].forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.id === selected)));
}

watch("value", show);
show();
