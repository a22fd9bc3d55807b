// Files as people bring them: chosen, dropped, in folders, in a zip. Each becomes {name, file}, the name with its folders.

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const STORED = 0;
const DEFLATED = 8;

// All files of a drop, those in folders too.
export async function filesOfDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ name: file.name, file }));
  return (await Promise.all(entries.map((entry) => filesOfEntry(entry, "")))).flat();
}

async function filesOfEntry(entry, folder) {
  const name = folder + entry.name;
  if (entry.isFile) return [{ name, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  const reader = entry.createReader();
  const children = [];
  for (;;) {  // a reader gives some at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    children.push(...some);
  }
  return (await Promise.all(children.map((child) => filesOfEntry(child, `${name}/`)))).flat();
}

export const filesOfInput = (input) => [...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));

// The files of a zip, unpacked as each is needed: {name, file()}. Only what zips of videos are: stored or deflated, below 4 GB.
export async function filesOfZip(zip) {
  const tail = new DataView(await zip.slice(Math.max(0, zip.size - 65557)).arrayBuffer());
  let at = tail.byteLength - 22;
  while (at >= 0 && tail.getUint32(at, true) !== END) at -= 1;
  if (at < 0) throw new Error(`${zip.name} is no zip, or a damaged one.`);
  const count = tail.getUint16(at + 10, true);
  const start = tail.getUint32(at + 16, true);
  const list = new DataView(await zip.slice(start, start + tail.getUint32(at + 12, true)).arrayBuffer());
  const found = [];
  let place = 0;
  for (let index = 0; index < count; index += 1) {
    if (place + 46 > list.byteLength || list.getUint32(place, true) !== ENTRY) throw new Error(`${zip.name} is a zip that can't be read here; unpack it first.`);
    const lengths = [28, 30, 32].map((offset) => list.getUint16(place + offset, true));
    const name = new TextDecoder().decode(new Uint8Array(list.buffer, list.byteOffset + place + 46, lengths[0]));
    const entry = {
      method: list.getUint16(place + 10, true),
      size: list.getUint32(place + 20, true),
      at: list.getUint32(place + 42, true),
    };
    if (!name.endsWith("/")) found.push({ name, file: () => unpack(zip, name, entry) });
    place += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  return found;
}

async function unpack(zip, name, { method, size, at }) {
  const head = new DataView(await zip.slice(at, at + 30).arrayBuffer());
  const begin = at + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const packed = zip.slice(begin, begin + size);
  const base = name.split("/").pop();
  if (method === STORED) return new File([packed], base);
  if (method !== DEFLATED) throw new Error(`${name} is packed in a way that can't be read here; unpack the zip first.`);
  return new File([await new Response(packed.stream().pipeThrough(new DecompressionStream("deflate-raw"))).blob()], base);
}
