// Many pairs from a table. `props.value` is what `table_view` returns. The table goes to the app, which reads it ('table'); the
// videos go there pair by pair, once somebody starts. A click on a judged row triggers 'reopen'.

import { filesOfDrop, filesOfInput, filesOfZip } from "../shared/dropped_files.js";
import { listen, make, saveFile, setText } from "../shared/dom.js";
import { upload } from "../shared/upload.js";
import { BatchRun } from "./batch_run.js";

const TABLE = /\.(csv|tsv|json|jsonl|parquet)$/i;
const ZIP = /\.zip$/i;
const DRAWN = 500;  // rows at a time
const THOUGHTS = 8;  // in mode k, as the choice says
const STATES = { open: "", uploading: "uploading", judging: "judging" };
const number = (value, digits) => (typeof value === "number" ? value.toFixed(digits).replace("-", "\u2212") : "");
const reward = (row, side) => row.result?.videos[side].reward ?? null;

// title, value to sort and to write to files by, text in the table
const COLUMNS = [
  ["line", (row) => row.line],
  ["prompt", (row) => row.prompt],
  ["video A", (row) => row.a],
  ["video B", (row) => row.b],
  ["verdict", (row) => row.result?.verdict ?? "", (row) => verdictText(row)],
  ["P(A preferred)", (row) => row.result?.p_first_preferred ?? null, (row) => probability(row)],
  ["reward A", (row) => reward(row, 0), (row) => number(reward(row, 0), 3)],
  ["reward B", (row) => reward(row, 1), (row) => number(reward(row, 1), 3)],
  ["seconds", (row) => (row.result ? Math.max(...row.result.videos.map((video) => video.seconds)) : null), (row, value) => number(value, 1)],
];

function verdictText(row) {
  if (row.state === "error") return row.error;
  if (!row.result) return STATES[row.state];
  const { verdict, p_first_preferred: p } = row.result;
  if (!verdict) return "no verdict";
  if (typeof p === "number" && !isUnfamiliar(row)) return { A: "A preferred", B: "B preferred", tie: "too close to call" }[verdict];
  const higher = { A: "A has the higher reward", B: "B has the higher reward", tie: p === null ? "equal rewards" : "too close to call" }[verdict];
  return isUnfamiliar(row) ? `unlike the videos this checkpoint knows: ${higher}` : higher;
}

const isUnfamiliar = (row) => row.result.videos.some((video) => video.unfamiliar);

// No certainty, which no model has, and none at all about videos that it does not know; the download has the number.
function probability(row) {
  const p = row.result?.p_first_preferred;
  if (typeof p !== "number" || isUnfamiliar(row)) return "";
  return p >= 0.995 ? "over 0.99" : p < 0.005 ? "under 0.01" : p.toFixed(2);
}

// Numbers by value, texts as people sort them; what is missing comes last either way.
function compare(one, other, down) {
  const missing = (value) => value === null || value === "";
  if (missing(one) || missing(other)) return missing(one) - missing(other);
  const order = typeof one === "number" ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true });
  return down ? -order : order;
}

// A cell that a spreadsheet would take for a formula is written as text.
function csvCell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" && /^[=+@\t\r-]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

class Batch {
  constructor(root, trigger) {
    this.root = root;
    this.trigger = trigger;
    this.part = (name) => root.querySelector(`.batch-${name}`);
    this.rows = [];
    this.files = new Map();   // name -> {name, file}
    this.names = new Map();   // last part of a name -> its names
    this.turn = 0;
    this.run = null;
    this.sort = { column: 0, down: false };
    this.painting = false;
    this.listenToButtons();
    this.buildHead();
  }

  listenToButtons() {
    const { part } = this;
    part("close").addEventListener("click", () => this.open(false));
    ["files", "folder"].forEach((name) => {
      const input = part(name === "files" ? "input" : "input-folder");
      part(name).addEventListener("click", () => input.click());
      input.addEventListener("change", () => { const chosen = filesOfInput(input); input.value = ""; this.bring(chosen); });
    });
    part("start").addEventListener("click", () => this.start());
    part("stop").addEventListener("click", () => this.run?.stop());
    part("search").addEventListener("input", () => this.paint());
    part("show").addEventListener("change", () => this.paint());
    part("csv").addEventListener("click", () => this.save("csv"));
    part("json").addEventListener("click", () => this.save("json"));
    this.root.addEventListener("dragover", (event) => { event.preventDefault(); event.stopPropagation(); });
    this.root.addEventListener("drop", async (event) => {
      event.preventDefault();
      event.stopPropagation();
      this.bring(await filesOfDrop(event.dataTransfer));
    });
    this.root.addEventListener("keydown", (event) => { if (event.key === "Escape") this.open(false); });
  }

  buildHead() {
    this.root.querySelector("thead tr").replaceChildren(...COLUMNS.map(([title], column) => {
      const button = make("button", "", title);
      button.type = "button";
      button.addEventListener("click", () => {
        this.sort = { column, down: this.sort.column === column && !this.sort.down };
        this.paint();
      });
      const cell = make("th", "", button);
      cell.scope = "col";
      return cell;
    }));
  }

  open(isOpen) {
    this.root.hidden = !isOpen;
    document.getElementById("judge-page")?.classList.toggle("is-batch", isOpen);
    if (isOpen) this.part("files").focus({ preventScroll: true });
  }

  // ---- files ---------------------------------------------------------------------------------------------------

  async bring(brought) {
    try {
      const zips = brought.filter(({ name }) => ZIP.test(name));
      const unpacked = (await Promise.all(zips.map(({ file }) => filesOfZip(file)))).flat();
      const all = [...brought.filter(({ name }) => !ZIP.test(name)), ...unpacked];
      all.forEach((one) => this.keep(one));
      const tables = all.filter(({ name }) => TABLE.test(name));
      if (tables.length > 1) throw new Error(`There are ${tables.length} tables among these files; choose one of them.`);
      if (tables.length) await this.readTable(tables[0]);
      else if (this.rows.length) this.match();
      else throw new Error("There is no table among these files (.csv, .json, .jsonl or .parquet).");
    } catch (error) {
      this.say(error.message || "These files can't be read.");
    }
  }

  keep(one) {
    this.files.set(one.name, one);
    const last = one.name.split("/").pop();
    this.names.set(last, [...(this.names.get(last) || []).filter((name) => name !== one.name), one.name]);
  }

  async fileAt({ file }) { return typeof file === "function" ? file() : file; }

  async readTable(table) {
    this.say(`Reading ${table.name} ...`);
    const path = await upload(await this.fileAt(table));
    this.turn += 1;
    this.trigger("table", { path, name: table.name.split("/").pop(), turn: this.turn });
  }

  show(value) {
    if (!value || !value.turn || value.turn !== this.turn || value === this.shown) return;
    this.shown = value;
    this.run?.stop();
    this.rows = value.pairs.map((pair) => ({ ...pair, state: "open", error: "", result: null }));
    this.notes = value.notes;
    if (value.error) this.say(value.error);
    else this.match();
    this.paint();
  }

  // A table names a video by its path; the files here have another beginning of it, or none.
  fileNamed(path) {
    const wanted = path.replaceAll("\\", "/").replace(/^\.\//, "");
    if (this.files.has(wanted)) return this.files.get(wanted);
    const candidates = this.names.get(wanted.split("/").pop()) || [];
    const ending = candidates.filter((name) => wanted.endsWith(`/${name}`) || name.endsWith(`/${wanted}`));
    const found = ending.length ? ending : candidates;
    return found.length === 1 ? this.files.get(found[0]) : null;
  }

  match() {
    let missing = 0;
    this.rows.forEach((row) => {
      if (row.state === "done") return;
      const absent = [row.a, row.b].filter((path) => !this.fileNamed(path));
      if (absent.length) missing += 1;
      row.state = absent.length ? "error" : "open";
      row.error = absent.length ? `not among the files: ${absent.join(", ")}` : "";
    });
    const judgeable = this.rows.length - missing;
    const gone = missing ? `; ${missing} without their videos, which can still be added` : "";
    setText(this.part("found"), [`${this.rows.length} pairs${gone}.`, ...(this.notes || [])].join(" "));
    this.part("start").disabled = !judgeable || Boolean(this.run);
    this.say("");
    this.paint();
  }

  say(text) {
    setText(this.part("status"), text);
  }

  // ---- judging -------------------------------------------------------------------------------------------------

  async start() {
    this.rows.forEach((row) => { if (row.state === "error") row.state = "open"; });
    this.match();
    const how = { mode: this.part("mode").value, k: THOUGHTS };
    if (this.how && this.how.mode !== how.mode) this.forgetResults();
    this.how = how;
    const began = Date.now();
    const before = this.rows.filter((row) => row.state === "done").length;
    const run = new BatchRun(this.rows, async (name) => this.fileAt(this.fileNamed(name)), how, () => {
      if (this.run === run) this.progress(began, before);
      this.paint();
    });
    this.run = run;
    this.part("start").disabled = true;
    this.part("stop").disabled = false;
    await run.run();
    if (this.run !== run) return;
    this.run = null;
    this.part("stop").disabled = true;
    this.part("start").disabled = false;
    this.progress(began, before, true);
  }

  forgetResults() {
    this.rows.forEach((row) => { if (row.state === "done") Object.assign(row, { state: "open", result: null }); });
  }

  progress(began, before, isOver = false) {
    const count = (state) => this.rows.filter((row) => row.state === state).length;
    const [done, failed] = [count("done"), count("error")];
    const left = this.rows.length - done - failed;
    this.part("bar").value = this.rows.length ? (done + failed) / this.rows.length : 0;
    const fresh = done - before;
    const seconds = (Date.now() - began) / 1000;
    const toGo = left && fresh > 1 && !isOver ? `, about ${Math.max(1, Math.round((seconds * left) / fresh / 60))} min to go` : "";
    const errors = failed ? `, ${failed} with an error` : "";
    this.say(`${isOver && left ? "Stopped: " : ""}${done} of ${this.rows.length} judged${errors}${toGo}`);
  }

  // ---- results -------------------------------------------------------------------------------------------------

  wanted() {
    const words = this.part("search").value.trim().toLowerCase();
    const show = this.part("show").value;
    const isShown = (row) => {
      if (show === "error" && row.state !== "error") return false;
      if (show === "open" && (row.state === "done" || row.state === "error")) return false;
      if (["A", "B", "tie"].includes(show) && row.result?.verdict !== show) return false;
      return !words || [row.prompt, row.a, row.b].some((text) => text.toLowerCase().includes(words));
    };
    const value = COLUMNS[this.sort.column][1];
    return this.rows.filter(isShown).sort((one, other) => compare(value(one), value(other), this.sort.down));
  }

  // Once a frame, however many rows change.
  paint() {
    if (this.painting) return;
    this.painting = true;
    requestAnimationFrame(() => {
      this.painting = false;
      this.part("results").hidden = !this.rows.length;
      const rows = this.wanted();
      this.root.querySelector("tbody").replaceChildren(...rows.slice(0, DRAWN).map((row) => this.line(row)));
      this.root.querySelectorAll("th").forEach((cell, column) => {
        const sorted = this.sort.down ? "descending" : "ascending";
        cell.setAttribute("aria-sort", column === this.sort.column ? sorted : "none");
      });
      const more = rows.length > DRAWN ? ` The first ${DRAWN} of ${rows.length} rows are shown; the downloads have all.` : "";
      setText(this.part("kept"), `Every judgement is kept, so the same table again goes on where it stopped. A click on a row opens its pair.${more}`);
    });
  }

  line(row) {
    const cells = COLUMNS.map(([title, value, text]) => {
      const cell = make("td", "", text ? text(row, value(row)) : String(value(row)));
      cell.dataset.name = title;
      return cell;
    });
    const line = make("tr", "", ...cells);
    line.dataset.state = row.state;
    line.dataset.verdict = row.result?.verdict || "";
    if (!row.result) return line;
    line.tabIndex = 0;
    const open = () => {
      const [a, b] = row.result.videos.map((video) => video.id);
      this.open(false);
      this.trigger("reopen", { a, b, prompt: row.prompt, mode: row.result.mode, k: THOUGHTS });
    };
    line.addEventListener("click", open);
    line.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
    return line;
  }

  save(kind) {
    const rows = this.wanted();
    if (kind === "json") {
      const whole = rows.map(({ line, a, b, prompt, state, error, result }) => ({ line, video_a: a, video_b: b, prompt, state, error, result }));
      saveFile("judged.json", JSON.stringify(whole, null, 2), "application/json");
      return;
    }
    const head = [...COLUMNS.map(([title]) => title), "error"];
    const lines = rows.map((row) => [...COLUMNS.map(([, value]) => value(row)), row.error].map(csvCell).join(","));
    saveFile("judged.csv", `\ufeff${[head.map(csvCell).join(","), ...lines].join("\r\n")}\r\n`, "text/csv");
  }
}

export function mount({ element, props, trigger, watch }) {
  const batch = new Batch(element.querySelector(".batch"), trigger);
  listen(element, "descore:batch", () => batch.open(true));
  watch("value", () => batch.show(props.value));
}
