// Judges rows one after the other, some at a time, as a program would: two uploads, a call, its answer. `onChange(row)` is called
// whenever a row changes: its state is "open", "uploading", "judging", "done" or "error".

import { addressOf } from "../shared/address.js";
import { upload } from "../shared/upload.js";

const AT_ONCE = 2;              // a visitor without an account may have three judgements in the queue
const FRESH = 45 * 60 * 1000;   // milliseconds; uploads wait an hour for their use
const TRIES = 6;
const PAUSE = 4000;             // milliseconds between two of them
const BUSY = /wait|try again/i; // refusals that pass by themselves

export class BatchRun {
  constructor(rows, fileOf, how, onChange) {
    this.rows = rows;
    this.fileOf = fileOf;   // async (name) -> File
    this.how = how;         // {mode, k}
    this.onChange = onChange;
    this.stopping = new AbortController();
    this.uploads = new Map();
  }

  stop() { this.stopping.abort(); }

  async run() {
    const open = this.rows.filter((row) => row.state === "open");
    const worker = async () => {
      while (open.length && !this.stopping.signal.aborted) await this.judge(open.shift());
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }

  set(row, values) {
    Object.assign(row, values);
    this.onChange(row);
  }

  async judge(row) {
    try {
      this.set(row, { state: "uploading", error: "" });
      const videos = [await this.uploaded(row.a), await this.uploaded(row.b)];
      this.set(row, { state: "judging" });
      const result = await this.patiently(() => this.call([...videos, row.prompt, this.how.mode, this.how.k]));
      this.set(row, { state: "done", result });
    } catch (error) {
      if (this.stopping.signal.aborted) this.set(row, { state: "open" });
      else this.set(row, { state: "error", error: error.message || "This did not work." });
    }
  }

  // A file that stands in several rows is sent once.
  uploaded(name) {
    const known = this.uploads.get(name);
    if (known && Date.now() - known.at < FRESH) return known.file;
    const file = (async () => {
      const path = await this.patiently(async () => upload(await this.fileOf(name), () => {}, this.stopping.signal));
      return { path, meta: { _type: "gradio.FileData" } };
    })();
    this.uploads.set(name, { file, at: Date.now() });
    file.catch(() => this.uploads.delete(name));
    return file;
  }

  // Refusals that say "wait" are waited for.
  async patiently(work) {
    for (let left = TRIES - 1; ; left -= 1) {
      try {
        return await work();
      } catch (error) {
        if (this.stopping.signal.aborted || !left || !BUSY.test(error.message || "")) throw error;
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    }
  }

  async call(data) {
    const { signal } = this.stopping;
    const headers = { "Content-Type": "application/json" };
    const address = addressOf("gradio_api/call/judge");
    const asked = await fetch(address, { method: "POST", headers, body: JSON.stringify({ data }), signal });
    if (!asked.ok) throw new Error(`The app refused (${asked.status}). Try again.`);
    const { event_id: id } = await asked.json();
    const answer = await fetch(`${address}/${id}`, { signal });
    let name = "";
    for await (const line of linesOf(answer.body)) {
      if (line.startsWith("event: ")) name = line.slice(7);
      if (!line.startsWith("data: ")) continue;
      if (name === "complete") return JSON.parse(line.slice(6))[0];
      if (name === "error") throw new Error(sentenceOf(line.slice(6)));
    }
    throw new Error("The connection broke off. Try again.");
  }
}

async function* linesOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines;
  }
  if (rest) yield rest;
}

function sentenceOf(text) {
  try {
    const said = JSON.parse(text);
    return (said && (said.error || said.message)) || (typeof said === "string" ? said : "This did not work.");
  } catch {
    return "This did not work.";
  }
}
