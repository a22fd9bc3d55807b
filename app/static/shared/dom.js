// Small helpers for making and changing nodes.

export function make(tag, className = "", ...content) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...content.filter((part) => part !== null && part !== undefined));
  return node;
}

// A text that is the same is not written again: that would drop a selection in it.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Without https there may be no clipboard; the field is selected then, and copied as with the keyboard.
export async function copyField(field) {
  const wasHidden = field.hidden;
  field.hidden = false;
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    return document.execCommand("copy");
  } finally {
    field.hidden = wasHidden;
  }
}

// A name for one submission: the server saves it once, however often it arrives.
export function newToken() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
