// Strokes on the page of a case: what was drawn with their pen goes to the server with the label about
// it, and the label that the server answers is laid in. Nothing is kept there.
export const STROKES = { stroke: 254, not: 255 }; // pen values: the organ, and not this organ
const REACH_MM = { networks: 38, nninteractive: 80 }; // no stroke changes a voxel farther away
const MOST = 60e6; // voxels of a region that the server takes

let earlier = []; // strokes on this organ since it was chosen: they bind, too
export const forgetStrokes = () => { earlier = []; };

const packed = bytes => new Response(new Blob([bytes]).stream()
  .pipeThrough(new CompressionStream("deflate"))).blob();
const unpacked = async blob => new Uint8Array(await new Response(blob.stream()
  .pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());

// Voxels of a value, and the smallest box around all.
function drawnVoxels(bitmap, nx, ny) {
  const found = { 254: [], 255: [] };
  for (let i = 0; i < bitmap.length; i++)
    if (bitmap[i] >= 254) found[bitmap[i]].push([i % nx, Math.floor(i / nx) % ny, Math.floor(i / (nx * ny))]);
  return found;
}

// Asks the server; `clean` is the label without the stroke. Throws what is to be said.
export async function refine(nv, url, box, organ, clean, by) {
  const [, nx, ny, nz] = nv.back.dimsRAS, size = [nx, ny, nz];
  const found = drawnVoxels(nv.drawBitmap, nx, ny), drawn = [...found[254], ...found[255]];
  if (!drawn.length) throw new Error("the stroke lies outside of the CT");
  const key = ([x, y, z]) => x + nx * (y + ny * z);
  const ends = size.map((n, axis) => drawn.reduce(([low, high], voxel) =>
    [Math.min(low, voxel[axis]), Math.max(high, voxel[axis])], [n, 0]));
  let from, to, shape;
  for (let reach = REACH_MM[by]; !shape || (shape[0] * shape[1] * shape[2] > MOST && reach > 10); reach *= 0.8) {
    const more = size.map((_, axis) => Math.ceil(reach / nv.back.pixDimsRAS[axis + 1]));
    from = ends.map(([low], axis) => Math.max(0, low - more[axis]));
    to = ends.map(([, high], axis) => Math.min(size[axis], high + more[axis] + 1));
    shape = to.map((n, axis) => n - from[axis]);
  }
  const label = new Uint8Array(shape[0] * shape[1] * shape[2]);
  const rows = act => {
    for (let z = 0, at = 0; z < shape[2]; z++) for (let y = 0; y < shape[1]; y++, at += shape[0])
      act(at, from[0] + nx * (from[1] + y + ny * (from[2] + z)));
  };
  rows((at, start) => label.set(clean.subarray(start, start + shape[0]), at));
  // The later of two strokes on a voxel counts.
  const marks = new Map(), before = earlier; // another organ may be chosen before the answer is there
  for (const [voxel, value] of earlier) marks.set(key(voxel), [voxel, value]);
  const now = Object.entries(found).flatMap(([value, voxels]) => voxels.map(voxel => [voxel, Number(value)]));
  for (const [voxel, value] of now) marks.set(key(voxel), [voxel, value]);
  const body = new FormData();
  body.append("organ", organ.name);
  body.append("region", [...from, ...to].join(","));
  body.append("box", box);
  body.append("by", by);
  body.append("label", await packed(label), "label");
  for (const [name, value] of [["inside", 254], ["outside", 255]]) {
    const voxels = [...marks.values()].filter(mark => mark[1] === value).map(mark => mark[0])
      .filter(voxel => voxel.every((n, axis) => n >= from[axis] && n < to[axis]));
    if (voxels.length) body.append(name, new Blob([new Uint16Array(voxels.flat())]), name);
  }
  const answer = await fetch(`${url}/strokes`, { method: "POST", body });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || `the server says ${answer.status}`);
  const made = await unpacked(await answer.blob()), out = clean.slice();
  if (made.length !== label.length) throw new Error("the answer does not fit");
  rows((at, start) => out.set(made.subarray(at, at + shape[0]), start));
  before.push(...now);
  const head = name => answer.headers.get(name);
  return { label: out, added: head("x-added-ml"), removed: head("x-removed-ml"), note: head("x-note") || "" };
}
