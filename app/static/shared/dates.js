// The one format of dates on all pages: 2026-11-27 13:05, in the time of this machine. The server writes UTC; where it does, that
// stands on hover.

const WRITTEN = /(\d{4}-\d\d-\d\d) (\d\d:\d\d) UTC/g;
const two = (number) => String(number).padStart(2, "0");

export function dateText(moment) {
  const day = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
  return `${day} ${two(moment.getHours())}:${two(moment.getMinutes())}`;
}

// A sentence of the server with its moments in the time of this machine.
export function localText(text) {
  return text.replace(WRITTEN, (_, day, time) => dateText(new Date(`${day}T${time}Z`)));
}

function showLocal(node) {
  node.title = node.textContent;
  node.textContent = dateText(new Date(node.dateTime));
}

// Every <time> of the page, whenever it comes in.
export function watchTimes(root = document.body) {
  const fresh = "time[datetime]:not([title])";
  const look = (node) => {
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    if (node.matches(fresh)) showLocal(node);
    for (const time of node.querySelectorAll(fresh)) showLocal(time);
  };
  look(root);
  new MutationObserver((changes) => { for (const { addedNodes } of changes) addedNodes.forEach(look); })
    .observe(root, { childList: true, subtree: true });
}
