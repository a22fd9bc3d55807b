// Sends one file to the app and resolves with the path by which the app names it. `onProgress` gets a share, 0 to 1. A refusal
// rejects with its sentence; `signal` ends it.

import { addressOf } from "./address.js";

const BROKEN = "The upload broke off. Choose the file again.";

export function upload(file, onProgress = () => {}, signal = null) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("files", file, file.name);
    request.upload.addEventListener("progress", (event) => { if (event.lengthComputable) onProgress(event.loaded / event.total); });
    request.addEventListener("error", () => reject(new Error(BROKEN)));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    request.addEventListener("load", () => {
      if (request.status !== 200) { reject(new Error(refusal(request))); return; }
      try {
        resolve(JSON.parse(request.responseText)[0]);
      } catch {
        reject(new Error(BROKEN));
      }
    });
    if (signal) signal.addEventListener("abort", () => request.abort());
    request.open("POST", addressOf("gradio_api/upload"));
    request.send(form);
  });
}

// A refusal is one sentence, as plain text or as {"detail": ...}.
function refusal(request) {
  try {
    const { detail } = JSON.parse(request.responseText);
    if (typeof detail === "string") return detail;
  } catch { /* plain text */ }
  const text = request.responseText.trim();
  return text && text.length < 300 && !text.startsWith("<") ? text : BROKEN;
}
