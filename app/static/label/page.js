// The Label page.

import { SyncedPair } from "../shared/synced_pair.js";
import { connectKeysAndButtons } from "./keys.js";
import { Session } from "./session.js";
import { COUNT_EVERY } from "./time_on_task.js";

export function mount({ element }) {
  const root = element.querySelector(".label");
  const session = new Session(root, new SyncedPair(element.querySelector(".pair")));
  connectKeysAndButtons(session);
  document.addEventListener("visibilitychange", () => {
    session.watch.count();
    if (document.visibilityState === "hidden" && !session.sending) session.saveOnLeaving();
  });
  window.addEventListener("pagehide", () => session.saveOnLeaving());
  const timer = setInterval(() => {
    if (root.isConnected) session.keepTime();
    else clearInterval(timer);
  }, COUNT_EVERY);
  session.start();
}
