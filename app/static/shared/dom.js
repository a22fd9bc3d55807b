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

// Listens to an event of the whole page as long as a component stands on it.
export function listen(element, name, act) {
  const on = (event) => {
    if (element.isConnected) act(event);
    else document.removeEventListener(name, on);
  };
  document.addEventListener(name, on);
}

// Whether a key is nobody else's: not held with another, not written into a field, no dialog open.
export function isFreeKey(event) {
  if (event.defaultPrevented || event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return false;
  const focus = event.target;
  if (document.querySelector("dialog[open]") || focus.isContentEditable || focus.closest?.("textarea, select, [role=dialog]")) return false;
  return !(focus.tagName === "INPUT" && !["radio", "checkbox", "range", "button"].includes(focus.type));
}

// Lets the browser save a text as a file.
export function saveFile(name, text, type) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
