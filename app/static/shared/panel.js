// One panel of the Lead page; form_fields.js stands before it. Runs once, as the body of a function that Gradio calls with
// `element`, `props`, `trigger` and `watch`. `props.value` is {html, status, bad, running}: HTML that the server made and escaped,
// or null to leave what is there (so that a refused form keeps what was typed). Buttons with data-act and forms with data-act
// trigger 'act'; what they say is checked on the server.

const body = element.querySelector(".ds-body");
const status = element.querySelector(".ds-status");
const cancel = element.querySelector(".ds-cancel");
const AGAIN = 700;           // milliseconds in which the same thing is not asked twice
let shown = null, lastAct = 0, lastAsked = "";

function act(data) {
  const asked = JSON.stringify(data);
  if (asked === lastAsked && Date.now() - lastAct < AGAIN) return;
  lastAct = Date.now();
  lastAsked = asked;
  status.textContent = "";
  trigger("act", { asked: data });
}

function click(event) {
  const copy = event.target.closest("[data-copy]");
  if (copy) { copyText(copy); return; }
  const button = event.target.closest("button[data-act]");
  if (!button || (button.dataset.confirm && !window.confirm(button.dataset.confirm))) return;
  const form = button.dataset.with && body.querySelector(button.dataset.with);
  act({ ...(form ? fields(form) : {}), act: button.dataset.act, id: button.dataset.id || "" });
}

// Without https there may be no clipboard; the link is selected then, and copied with the keyboard.
async function copyText(button) {
  const field = body.querySelector(button.dataset.copy);
  field.select();
  try { await navigator.clipboard.writeText(field.value); button.textContent = "Copied"; } catch { document.execCommand("copy"); }
}

function submit(event) {
  const form = event.target.closest("form[data-act]");
  if (!form) return;
  event.preventDefault();
  act({ ...fields(form), act: form.dataset.act, id: form.dataset.id || "" });
}

// A choice that makes its form ask anew, such as a filter.
function change(event) {
  const control = event.target.closest("[data-change]");
  const form = control && control.closest("form");
  if (form) act({ ...fields(form), act: control.dataset.change, id: form.dataset.id || "" });
}

// Fills the player's own address into links: the server may not know under which one it is reached.
function absolute() {
  for (const field of body.querySelectorAll("input[data-path]")) field.value = new URL(field.dataset.path, document.baseURI).href;
}

function show() {
  const value = props.value || {};
  if (value.html !== null && value.html !== undefined && value.html !== shown) {
    const held = body.contains(document.activeElement) ? document.activeElement : null;
    const same = held && held.dataset.act ? `[data-act="${held.dataset.act}"][data-id="${held.dataset.id || ""}"]` : "";
    body.innerHTML = shown = value.html;
    if (same) body.querySelector(same)?.focus();
    absolute();
  }
  status.textContent = value.status || "";
  cancel.hidden = !value.running;
  status.classList.toggle("is-bad", Boolean(value.bad));
}

element.addEventListener("click", click);
element.addEventListener("submit", submit);
element.addEventListener("change", change);
element.addEventListener("input", () => { shown = null; });  // what was typed goes when the same form comes back
watch("value", show);
show();

// Asks again while somebody looks: the tab is in front and the panel is on the screen.
const seconds = Number(element.querySelector(".ds-panel").dataset.poll);
if (seconds) {
  const timer = setInterval(() => {
    if (!element.isConnected) clearInterval(timer);
    else if (!document.hidden && element.querySelector(".ds-panel").offsetParent) trigger("poll", {});
  }, seconds * 1000);
}
