// A panel of a page. `props.value` is {html, status, bad, running}: HTML that the server made and escaped, or null to leave the
// content that is there (so that a refused form keeps what was typed). Buttons with data-act and forms with data-act trigger
// 'act' with their fields, which the server checks.

import { copyField } from "./dom.js";
import { fields } from "./form_fields.js";

const REPEAT_AFTER = 700;  // milliseconds in which the same act is not sent twice

export class Panel {
  constructor({ element, props, trigger, watch }) {
    this.element = element;
    this.props = props;
    this.trigger = trigger;
    this.body = element.querySelector(".ds-body");
    this.status = element.querySelector(".ds-status");
    this.cancel = element.querySelector(".ds-cancel");
    this.shown = null;
    this.lastAct = 0;
    this.lastForm = "";
    element.addEventListener("click", (event) => this.click(event));
    element.addEventListener("submit", (event) => this.submit(event));
    element.addEventListener("change", (event) => this.change(event));
    element.addEventListener("input", () => { this.shown = null; });  // what was typed goes when the same form comes back
    watch("value", () => this.show());
    this.show();
    this.poll(Number(element.querySelector(".ds-panel").dataset.poll));
  }

  act(form) {
    const text = JSON.stringify(form);
    if (text === this.lastForm && Date.now() - this.lastAct < REPEAT_AFTER) return;
    this.lastAct = Date.now();
    this.lastForm = text;
    this.status.textContent = "";
    this.trigger("act", { asked: form });
  }

  click(event) {
    const copy = event.target.closest("[data-copy]");
    if (copy) { this.copyText(copy); return; }
    const button = event.target.closest("button[data-act]");
    if (!button || (button.dataset.confirm && !window.confirm(button.dataset.confirm))) return;
    const form = button.dataset.with && this.body.querySelector(button.dataset.with);
    this.act({ ...(form ? fields(form) : {}), act: button.dataset.act, id: button.dataset.id || "" });
  }

  async copyText(button) {
    if (await copyField(this.body.querySelector(button.dataset.copy))) button.textContent = "Copied";
  }

  submit(event) {
    const form = event.target.closest("form[data-act]");
    if (!form) return;
    event.preventDefault();
    this.act({ ...fields(form), act: form.dataset.act, id: form.dataset.id || "" });
  }

  // A choice that asks for its form again, such as a filter.
  change(event) {
    const control = event.target.closest("[data-change]");
    const form = control && control.closest("form");
    if (form) this.act({ ...fields(form), act: control.dataset.change, id: form.dataset.id || "" });
  }

  // Fills the browser's own address of the app into links: the server may not know under which one it is reached.
  completeLinks() {
    for (const field of this.body.querySelectorAll("input[data-path]")) {
      field.value = new URL(field.dataset.path, document.baseURI).href;
    }
  }

  show() {
    const value = this.props.value || {};
    if (value.html !== null && value.html !== undefined && value.html !== this.shown) {
      const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
      const same = focused && focused.dataset.act ? `[data-act="${focused.dataset.act}"][data-id="${focused.dataset.id || ""}"]` : "";
      this.body.innerHTML = this.shown = value.html;
      if (same) this.body.querySelector(same)?.focus();
      this.completeLinks();
    }
    this.status.textContent = value.status || "";
    this.cancel.hidden = !value.running;
    this.status.classList.toggle("is-bad", Boolean(value.bad));
  }

  // Asks again while somebody looks: the tab is in front and the panel is on the screen.
  poll(seconds) {
    if (!seconds) return;
    const timer = setInterval(() => {
      if (!this.element.isConnected) clearInterval(timer);
      else if (!document.hidden && this.element.querySelector(".ds-panel").offsetParent) this.trigger("poll", {});
    }, seconds * 1000);
  }
}

export function mount(gradio) {
  new Panel(gradio);
}
