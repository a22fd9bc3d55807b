// What opens over the Label page: the reason for a skip or flag, the last ten labels, the guidelines, the model's view, the keys.

import { dateText } from "../shared/dates.js";
import { make, setText } from "../shared/dom.js";
import { button, inWords } from "./markup.js";
import { comparison } from "./model_view.js";
import { askModel, call } from "./server.js";

const REASONS = {
  skip: ["I can't tell from these videos", "I don't understand the prompt", "unpleasant to watch", "not my language or field"],
  flag: ["a video does not play", "the two videos are the same", "the prompt does not belong to these videos", "a video is damaged or empty"],
};
const KEY_TABLE = [
  ["Play", [["space", "play or pause"], [", .", "one frame back, on"], ["\u2190 \u2192", "half a second back, on"], ["home end", "to the start, the end"],
    ["[ ]", "slower, faster"], ["l", "loop on or off"]]],
  ["Preference", [["1 2", "A clearly, A slightly"], ["3", "tie"], ["4 5", "B slightly, B clearly"], ["0", "both bad"]]],
  ["Sub-scores", [["\u2191 \u2193", "dimension up, down"], ["q w e r", "A: 2, 1, 0, N/A"], ["u i o p", "B: 2, 1, 0, N/A"]]],
  ["Marks and note", [["m n", "A, B breaks here"], ["/", "write a note"], ["esc", "leave the note"]]],
  ["Go on", [["enter", "submit"], ["s", "skip"], ["f", "flag as broken"], ["z", "take the last one back"], ["h", "your last ten"],
    ["c", "your last label and the model"], ["t", "the model's thoughts, where open"], ["g", "guidelines"], ["?", "this list"]]],
];

function keyTable() {
  return KEY_TABLE.map(([title, rows]) => make("section", "", make("h3", "", title), make("dl", "", ...rows.flatMap(([keys, text]) => [
    make("dt", "", ...keys.split(" ").map((key) => make("kbd", "", key))),
    make("dd", "", text),
  ]))));
}

function guidelines(guide) {
  return [
    ...guide.intro.split(/\n+/).map((line) => make("p", "", line)),
    ...guide.dimensions.map((dimension) => make("section", "",
      make("h3", "", dimension.name),
      make("p", "", dimension.definition),
      dimension.example ? make("p", "label-example", dimension.example) : null)),
    make("p", "label-faint", `version ${guide.version}`),
  ];
}

export class Dialogs {
  constructor(root, pair) {
    this.root = root;
    this.pair = pair;
    this.dialog("reason").addEventListener("keydown", (event) => this.onReasonKey(event));
    root.querySelectorAll("[data-close]").forEach((node) => node.addEventListener("click", () => this.close()));
    // A click beside the panel closes it.
    root.querySelectorAll("dialog").forEach((dialog) => dialog.addEventListener("click", (event) => {
      if (event.target === dialog) this.close();
    }));
  }

  dialog(name) { return this.root.querySelector(`[data-dialog=${name}]`); }

  body(name) { return this.dialog(name).querySelector(".label-dialog-body"); }

  get open() { return this.root.querySelector("dialog[open]"); }

  show(name) {
    this.close();
    this.pair.pause();
    this.dialog(name).showModal();
  }

  // The focus would stay in a closed dialog until the next picture is drawn, and the next key go there.
  close() {
    this.root.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
    if (document.activeElement.closest("dialog")) document.activeElement.blur();
  }

  async fill(name, request, makeBody, patience = "loading") {
    this.body(name).replaceChildren(make("p", "label-faint", patience));
    this.show(name);
    try {
      this.body(name).replaceChildren(...makeBody(await request()));
    } catch (error) {
      this.body(name).replaceChildren(make("p", "error-line", error.message));
    }
  }

  // Asks why; `answer` gets the reason.
  askReason(action, answer) {
    const box = this.dialog("reason");
    setText(box.querySelector("h2"), action === "skip" ? "Why skip this pair?" : "What is broken?");
    const field = box.querySelector("input");
    field.value = "";
    const answerWith = (reason) => {
      this.close();
      answer(reason);
    };
    box.querySelector("ol").replaceChildren(...REASONS[action].map((reason, index) => (
      make("li", "", button(reason, String(index + 1), () => answerWith(reason)))
    )));
    box.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      if (field.value.trim()) {
        answerWith(field.value.trim());
        return;
      }
      box.querySelector("button").focus();
      field.placeholder = "choose 1 to 4, or say it in your own words";
    };
    this.show("reason");
  }

  onReasonKey(event) {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const box = this.dialog("reason");
    const reason = box.querySelectorAll("li button")[Number(event.key) - 1];
    if (reason) {
      event.preventDefault();
      reason.click();
    }
    if (event.key === "/") {
      event.preventDefault();
      box.querySelector("input").focus();
    }
  }

  // The last ten; `edit` opens one of them again.
  showHistory(campaign, edit) {
    this.fill("history", () => call(`history?campaign=${campaign}`), ({ turns: assignments }) => {
      if (!assignments.length) return [make("p", "label-faint", "Nothing yet.")];
      return [make("ol", "label-history", ...assignments.map(({ turn: token, label, at, prompt }) => {
        const open = button("", null, () => edit(token));
        open.append(make("b", "", inWords(label)), make("time", "", dateText(new Date(at))), make("span", "", prompt));
        return make("li", "", open, label.action === "label" ? button("compare", null, () => this.compare(token)) : null);
      }))];
    });
  }

  showGuidelines(campaign) {
    this.fill("guidelines", () => call(`guidelines?campaign=${campaign}`), guidelines);
  }

  showHelp() {
    this.body("help").replaceChildren(...keyTable());
    this.show("help");
  }

  // The label of an assignment beside the model's view.
  compare(token) {
    this.fill("compare", () => askModel(token), comparison, "asking the model; this may take a while");
  }
}
