// Addresses of the app. They are counted from this file, which lies two folders below the app's root, so that they hold under
// any prefix that a proxy puts before them.

const ROOT = new URL("../../", import.meta.url);

export const addressOf = (path) => new URL(path, ROOT).href;
