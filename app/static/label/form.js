// The form: what is filled in, and how it is shown. `content` is the one truth; `paint` draws it.

import { make } from "../shared/dom.js";
import { COLOUR, LETTER, SIDES, badge, button } from "./markup.js";

const SCORES = ["2", "1", "0", "N/A"];
export const SCORE_KEYS = { left: ["q", "w", "e", "r"], right: ["u", "i", "o", "p"] };
export const CHOICE_KEYS = ["1", "2", "3", "4", "5", "0"];
const MOST_MARKS = 50;
const SAME_MARK = 0.01;  // seconds between two marks that count as one

const emptyContent = () => ({ choice: null, strength: null, sub_scores: { left: {}, right: {} }, marks: [], note: "" });

export class LabelForm {
  // `onChange` is called after each change by the person.
  constructor(root, pair, onChange) {
    this.root = root;
    this.pair = pair;
    this.onChange = onChange;
    this.overall = root.querySelector(".label-overall");
    this.choiceButtons = [...this.overall.querySelectorAll("button")];
    this.grid = root.querySelector(".label-grid");
    this.chips = root.querySelector(".label-chips");
    this.note = root.querySelector(".label-note textarea");
    this.content = emptyContent();
    this.dimensions = [];
    this.cursor = 0;        // index of the dimension that keys fill in
    this.playhead = { time: 0, a: 0, b: 0 };
    this.suggested = null;  // the model's scores, where the campaign opens them
    this.note.addEventListener("input", () => {
      this.content.note = this.note.value;
      this.onChange();
    });
    this.choiceButtons.forEach((node, index) => node.addEventListener("click", () => this.setChoice(index)));
    root.querySelectorAll("[data-mark]").forEach((node) => node.addEventListener("click", () => this.addMark(node.dataset.mark)));
    pair.root.addEventListener("pair:clock", (event) => { this.playhead = event.detail; });
  }

  changed() {
    this.paint();
    this.onChange();
  }

  isScored(dimension) {
    return SIDES.every((side) => this.content.sub_scores[side][dimension]);
  }

  // ---- filling in ------------------------------------------------------------------------------------------------

  setChoice(index) {
    const { choice, strength = null } = this.choiceButtons[index].dataset;
    Object.assign(this.content, { choice, strength });
    this.changed();
  }

  setScore(side, dimension, score) {
    const wasComplete = this.dimensions.every((name) => this.isScored(name));
    this.content.sub_scores[side][dimension] = score;
    this.cursor = this.dimensions.indexOf(dimension);
    // On to the next open one when both videos have their score; a corrected one keeps the cursor where it is.
    if (!wasComplete && this.isScored(dimension)) this.moveCursor(1);
    this.changed();
  }

  setScoreAtCursor(side, index) {
    if (this.dimensions.length) this.setScore(side, this.dimensions[this.cursor], SCORES[index]);
  }

  moveCursor(step) {
    if (!this.dimensions.length) return;
    this.cursor = Math.min(this.dimensions.length - 1, Math.max(0, this.cursor + step));
    this.paintGrid();
  }

  addMark(side) {
    const { marks } = this.content;
    const time = Math.min(this.playhead.time, this.playhead[COLOUR[side]] || this.playhead.time);
    if (marks.length >= MOST_MARKS) return;
    if (marks.some((mark) => mark.side === side && Math.abs(mark.time - time) < SAME_MARK)) return;
    this.content.marks = [...marks, { side, time: Number(time.toFixed(3)) }].sort((a, b) => a.time - b.time);
    this.changed();
  }

  removeMark(mark) {
    this.content.marks = this.content.marks.filter((other) => other !== mark);
    this.changed();
  }

  // What keeps the label from being complete, as a sentence, with the part to go to; null when nothing is missing.
  missing() {
    if (!this.content.choice) return { text: "The overall preference is missing: 1 to 5, or 0.", part: "overall" };
    for (const [index, name] of this.dimensions.entries()) {
      const open = SIDES.filter((side) => !this.content.sub_scores[side][name]);
      if (open.length) {
        const keys = open.map((side) => `${LETTER[side]}: ${SCORE_KEYS[side].join(" ")}`).join(", ");
        return { text: `${name} has no score for ${open.map((side) => LETTER[side]).join(" and ")} yet (${keys}).`, part: index };
      }
    }
    return null;
  }

  // Goes to a part: "overall" or the index of a dimension.
  goTo(part) {
    if (part !== "overall") {
      this.cursor = part;
      this.paintGrid();
    }
    const node = part === "overall" ? this.overall : this.grid.children[part + 1];
    node.scrollIntoView({ block: "nearest" });
    node.classList.remove("asks");
    void node.offsetWidth;  // starts the animation again
    node.classList.add("asks");
  }

  // Fills the form from a draft or a saved label; what is not there stays open.
  fill(content) {
    const { choice = null, strength = null, sub_scores: scores = {}, marks = [], note = "" } = content || {};
    this.content = { choice, strength, sub_scores: { left: { ...scores.left }, right: { ...scores.right } }, marks: [...marks], note };
    const open = this.dimensions.findIndex((name) => !this.isScored(name));
    this.cursor = Math.max(0, open);
    this.paint();
  }

  // ---- showing ---------------------------------------------------------------------------------------------------

  setDimensions(names) {
    if (this.dimensions.join() === names.join()) return;
    this.dimensions = names;
    this.cursor = 0;
    this.grid.hidden = !names.length;
    this.grid.replaceChildren(this.makeHead(), ...names.map((name) => this.makeRow(name)));
  }

  makeHead() {
    const [left, right] = SIDES.map((side) => (
      make("span", "label-cells", ...SCORE_KEYS[side].map((key) => make("span", "", make("kbd", "", key))))
    ));
    return make("div", "label-row label-row-head", left, make("span", "label-name", badge("left"), "sub-scores", badge("right")), right);
  }

  makeRow(name) {
    const goToRow = () => {
      this.cursor = this.dimensions.indexOf(name);
      this.paintGrid();
    };
    const [left, right] = SIDES.map((side) => this.makeCells(side, name));
    const row = make("div", "label-row", left, button(name, null, goToRow, "label-name"), right);
    row.dataset.dimension = name;
    return row;
  }

  makeCells(side, name) {
    return make("span", `label-cells side-${COLOUR[side]}`, ...SCORES.map((score, index) => {
      const cell = button(score, null, () => this.setScore(side, name, score));
      cell.dataset.side = side;
      cell.dataset.score = score;
      cell.title = `${LETTER[side]}, ${name}: ${score} (${SCORE_KEYS[side][index]})`;
      cell.setAttribute("aria-label", `${LETTER[side]}, ${name}: ${score}`);
      return cell;
    }));
  }

  suggest(scores) {
    this.suggested = scores;
    this.paintGrid();
  }

  paintGrid() {
    this.dimensions.forEach((name, index) => {
      const row = this.grid.children[index + 1];
      row.classList.toggle("is-current", index === this.cursor);
      row.querySelectorAll("[data-score]").forEach((cell) => {
        const { side, score } = cell.dataset;
        cell.setAttribute("aria-pressed", String(this.content.sub_scores[side][name] === score));
        cell.classList.toggle("is-suggested", Boolean(this.suggested) && this.suggested[side][name] === score);
      });
    });
  }

  paintMarks() {
    const { marks } = this.content;
    this.chips.replaceChildren(...marks.map((mark) => {
      const go = button(`${mark.time.toFixed(2)} s`, null, () => this.pair.seekAndStop(mark.time));
      go.title = "Go there";
      go.prepend(badge(mark.side));
      const remove = button("\u00d7", null, () => this.removeMark(mark));
      remove.setAttribute("aria-label", `Remove the mark of ${LETTER[mark.side]} at ${mark.time.toFixed(2)} s`);
      return make("span", `label-chip side-${COLOUR[mark.side]}`, go, remove);
    }));
    this.pair.setTicks(marks.map((mark) => ({ time: mark.time, side: COLOUR[mark.side] })));
  }

  paint() {
    this.choiceButtons.forEach((node) => {
      const pressed = node.dataset.choice === this.content.choice && (node.dataset.strength || null) === this.content.strength;
      node.setAttribute("aria-pressed", String(pressed));
    });
    this.paintGrid();
    this.paintMarks();
    if (this.note.value !== this.content.note) this.note.value = this.content.note;
    this.root.classList.toggle("is-complete", !this.missing());
  }
}
