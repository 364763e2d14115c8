// The page of a case: the CT by NiiVue, or slices that the server draws; organs, places, layers.
// `one`, `all`, `say` and `ask` are of the script that every page has.
const root = one("#case");
const facts = JSON.parse(root.dataset.facts);
const canvas = one("#gl");
const image = encodeURIComponent(facts.image);

export let nv = null; // NiiVue, once the CT is loaded
let niivue = null; // its module
let at = [...facts.at]; // voxel of the CT's file, as the slices show it
const box = facts.box ? facts.box.split(",").map(Number) : null; // first voxel and end of a block
export const before = { leaving: async () => {} }; // what is to be done before another part is shown

export const words = name => name.replaceAll("_", " ");
// Where a voxel of NiiVue's order (from right to left, back to front, foot to head) is in its label.
export function voxel(x, y, z) {
  const [, nx, ny] = nv.back.dimsRAS;
  return x + nx * (y + ny * z);
}

function tell(text) {
  const says = one("#viewer-says");
  says.textContent = text;
  says.hidden = !text;
}

// Fetches a file and says how far it is.
export async function fetched(url, method = "GET", told = () => {}) {
  const answer = await fetch(url, { method });
  if (!answer.ok) {
    const why = await answer.json().catch(() => ({}));
    throw new Error(why.detail || `the server says ${answer.status}`);
  }
  const total = Number(answer.headers.get("content-length")), parts = [];
  let done = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    parts.push(value);
    done += value.length;
    told(done, total);
  }
  return new Blob(parts);
}

export async function asImage(blob, name) {
  const head = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  const packed = head[0] === 0x1f && head[1] === 0x8b;
  const file = new File([blob], packed ? `${name}.nii.gz` : `${name}.nii`);
  return niivue.NVImage.loadFromFile({ file, name: file.name, colormap: "gray" });
}

function colors(opaque) {
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  for (const organ of facts.organs) {
    ["R", "G", "B"].forEach((key, i) => table[key].push(organ.color[i]));
    table.A.push(opaque);
    table.I.push(organ.id);
    table.labels.push("");
  }
  for (const [value, color] of [[254, [60, 255, 60]], [255, [255, 60, 60]]]) { // strokes, see strokes.js
    ["R", "G", "B"].forEach((key, i) => table[key].push(color[i]));
    table.A.push(opaque);
    table.I.push(value);
    table.labels.push("");
  }
  return table;
}

// Slices by the server, until the CT is here and where it cannot be shown otherwise.
let waiting = 0;
function draw() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const query = new URLSearchParams({ image: facts.image, x: at[0], y: at[1], z: at[2],
      window: one("#window").value, label: one("#label-on").checked });
    one("#slices img").src = `/atlas8k/case/slices?${query}`;
    one("#slices img").alt = `Three planes of the CT through voxel ${at.join(", ")}`;
  }, 120);
}
for (const slider of all("[data-axis]")) slider.addEventListener("input", () => {
  at[slider.dataset.axis] = Number(slider.value);
  one("output", slider.parentElement).textContent = slider.value;
  draw();
});
function move(to) {
  at = to.map((n, axis) => Math.min(Math.max(Math.round(n), 0), facts.shape[axis] - 1));
  for (const slider of all("[data-axis]")) {
    slider.value = at[slider.dataset.axis];
    one("output", slider.parentElement).textContent = slider.value;
  }
  draw();
}

// A CT that is too large for a browser is shown thinned; a block of it at full resolution.
async function part(mm, number) {
  await before.leaving();
  const near = mm ? `&near=${[...mm].slice(0, 3).map(n => n.toFixed(2))}` : "";
  location.assign(`/atlas8k/case?image=${image}${near}${number === undefined ? "" : `#${number}`}`);
}
const here = () => nv.frac2mm(nv.scene.crosshairPos, 0, true);
export const closer = () => nv && facts.view !== "whole" && part(here());
const inBlock = voxel => !box || voxel.every((n, axis) => n >= box[axis] && n < box[axis + 3]);
one("#closer")?.addEventListener("click", closer);
one("#all-of-it")?.addEventListener("click", () => part());

// At each change of a window NiiVue computes a texture of gradients, for shading that this page does
// not use: more than half of its time, and 8 bytes a voxel. It is given a volume of 2 x 2 x 2 for it.
function withoutGradients(made) {
  const { blurShader } = made;
  let dims = null, texture = null;
  Object.defineProperty(made, "blurShader", { get() { // asked for when the gradients are begun
    const { hdr } = made.volumes[0];
    dims = hdr.dims;
    hdr.dims = [3, 2, 2, 2, 1, 1, 1, 1];
    return blurShader;
  } });
  Object.defineProperty(made, "gradientTexture", { get: () => texture, set(value) { // done
    texture = value;
    if (dims) made.volumes[0].hdr.dims = dims;
    dims = null;
  } });
}

// NiiVue.
async function begin() {
  if (!document.createElement("canvas").getContext("webgl2"))
    return tell("This browser has no WebGL 2, or it is turned off: the server draws the slices. "
      + "You can look, mark organs and submit; drawing needs WebGL 2, or 3D Slicer.");
  try {
    niivue = await import("/atlas8k/viewer/niivue.js");
  } catch {
    return tell("NiiVue is not installed on this server (atlas8k viewer install): the server draws "
      + "the slices. You can look, mark organs and submit; draw in 3D Slicer.");
  }
  one("#loading").hidden = false;
  one("#loaded-text").textContent = "the server reads it";
  try {
    const ct = await asImage(await fetched(facts.ct, "GET", (done, total) => {
      one("#loaded-text").textContent = `${(done / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`;
      if (total) one("#loaded").value = done / total;
    }), "ct");
    one("#loaded-text").textContent = "unpacking";
    const made = new niivue.Niivue({ isRadiologicalConvention: true, sagittalNoseLeft: true,
      dragMode: niivue.DRAG_MODE.slicer3D, isOrientationTextVisible: true, showLegend: false,
      dragAndDropEnabled: false, maxDrawUndoBitmaps: 24, crosshairColor: [1, 0.9, 0.2, 0.7],
      crosshairWidth: 1.2, crosshairWidthUnit: "mm",
      multiplanarShowRender: niivue.SHOW_RENDER.NEVER, clipPlaneHotKey: "", viewModeHotKey: "",
      cycleClipPlaneHotKey: "", logLevel: "error", isColorbar: false });
    one("#gl-box").hidden = false;
    await made.attachToCanvas(canvas);
    withoutGradients(made);
    // Everything that NiiVue makes its textures by comes before the CT: it makes them once.
    made.setDrawColormap(colors(255));
    made.drawOpacity = one("#label-on").checked ? one("#opacity").value / 100 : 0;
    [ct.cal_min, ct.cal_max] = facts.windows[one("#window").value];
    made.addVolume(ct);
    made.onLocationChange = ({ frac, vox, values }) => {
      const mm = made.frac2mm(frac, 0, true); // without `true` as if the CT were not oblique
      const found = facts.organs[made.drawBitmap?.[voxel(...vox)] - 1];
      one("#where").textContent = `R ${mm[0].toFixed(1)}, A ${mm[1].toFixed(1)}, S ${mm[2].toFixed(1)} mm: `
        + `${Math.round(values[0].value)} HU${found ? `, ${words(found.name)}` : ""}`;
    };
    nv = made;
    one("#slices").hidden = true;
    document.documentElement.classList.add("niivue");
    one("#sliders").hidden = true;
    if (facts.label) await showLabel();
    root.dispatchEvent(new Event("shown"));
    const near = new URLSearchParams(location.search).get("near"), asked = parseInt(location.hash.slice(1), 10);
    if (box && near && !(asked >= 0)) cross(near.split(",").map(Number));
    else jump(asked >= 0 ? asked : Math.max(place, 0), true);
  } catch (error) {
    nv = null;
    one("#gl-box").hidden = true;
    one("#slices").hidden = false;
    tell(`The CT could not be loaded here (${error.message}): the server draws the slices.`);
  }
  one("#loading").hidden = true;
}

async function showLabel() {
  const drawn = facts.view === "thinned" && facts.drawing.version && facts.drawing.fingerprint === facts.fingerprint;
  const label = await asImage(await fetched(drawn ? facts.drawn : facts.start, facts.method), "label");
  if (!nv.loadDrawing(label)) throw new Error("the label is not on this CT's grid");
}

function view() {
  if (!nv) return draw();
  const [low, high] = facts.windows[one("#window").value], ct = nv.volumes[0];
  ct.cal_min = low;
  ct.cal_max = high;
  nv.updateGLVolume();
}
function opacity() {
  if (!nv) return draw();
  nv.setDrawOpacity(one("#label-on").checked ? one("#opacity").value / 100 : 0);
  nv.setOpacity(0, one("#ct-on").checked ? 1 : 0);
}
const LAYOUTS = { planes: 3, all: 3, axial: 0, coronal: 1, sagittal: 2, "3d": 4 };
function layout() {
  const asked = one("#layout").value;
  nv.opts.multiplanarShowRender = asked === "all" ? niivue.SHOW_RENDER.ALWAYS : niivue.SHOW_RENDER.NEVER;
  nv.setSliceType(LAYOUTS[asked]);
}
one("#window").addEventListener("change", view);
for (const key of ["#label-on", "#ct-on", "#opacity"]) one(key).addEventListener("input", opacity);
one("#layout").addEventListener("change", layout);

// Layers are fetched when they are switched on, and forgotten when they are switched off.
const shown = new Map();
for (const box of all("[data-layer]")) box.addEventListener("change", async () => {
  const key = box.dataset.layer;
  if (!box.checked) {
    if (shown.has(key)) nv.removeVolume(shown.get(key));
    shown.delete(key);
    return;
  }
  box.disabled = true;
  try {
    const layer = await asImage(await fetched(box.dataset.url, box.dataset.method), key);
    layer.setColormapLabel(colors(200));
    layer.opacity = 0.6;
    nv.addVolume(layer);
    shown.set(key, layer);
  } catch (error) {
    box.checked = false;
    say(`This layer cannot be shown: ${error.message}`, true);
  }
  box.disabled = false;
});

// Places.
let place = -1;
function jump(number, loaded = false) {
  if (!facts.places.length) return;
  place = (number + facts.places.length) % facts.places.length;
  const to = facts.places[place];
  for (const button of all("[data-place]"))
    button.ariaCurrent = Number(button.dataset.place) === place ? "true" : null;
  one(`[data-place="${place}"]`).scrollIntoView({ block: "nearest" });
  if (!loaded || !chosen) choose(to.organ, !loaded); // what was chosen while the CT came stays
  if (!nv) return move(to.centre);
  if (!inBlock(to.centre.map(Math.round))) return part(to.mm, place);
  cross(to.mm);
}
function cross(mm) {
  nv.scene.crosshairPos = nv.mm2frac(mm, 0, true);
  nv.drawScene();
  nv.createOnLocationChange();
}
for (const button of all("[data-place]"))
  button.addEventListener("click", () => jump(Number(button.dataset.place)));

// Organs.
export let organ = facts.organs[0];
let chosen = false;
const row = name => one(`tr[data-organ="${name}"]`);
export function choose(name, byHand = true) {
  chosen ||= byHand;
  organ = facts.organs.find(found => found.name === name);
  for (const line of all("tr[data-organ]")) line.ariaCurrent = line === row(name) ? "true" : null;
  root.dispatchEvent(new Event("organ"));
}
export function mark(name, state) {
  const select = one("select", row(name));
  if (select.disabled || select.value === state) return;
  select.value = state;
  select.dispatchEvent(new Event("change"));
}
for (const line of all("tr[data-organ]"))
  one("button", line).addEventListener("click", () => choose(line.dataset.organ));

const next = select => {
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
};
const flip = box => {
  box.checked = !box.checked;
  box.dispatchEvent(new Event("input"));
};
const step = (x, y, z) => nv && (nv.moveCrosshairInVox(x, y, z), true);
export const KEYS = {
  c: () => mark(organ.name, "correct"),
  x: () => mark(organ.name, "changed"),
  a: () => mark(organ.name, "absent"),
  u: () => mark(organ.name, ""),
  n: () => jump(place + 1),
  p: () => jump(place - 1),
  w: () => next(one("#window")),
  v: () => nv && next(one("#layout")),
  t: () => flip(one("#label-on")),
  d: closer,
  o: () => box && part(),
  "?": () => one("#keys").showModal(),
  // The patient's right is at the left of the screen.
  ArrowLeft: () => step(1, 0, 0),
  ArrowRight: () => step(-1, 0, 0),
  ArrowUp: () => step(0, 1, 0),
  ArrowDown: () => step(0, -1, 0),
  PageUp: () => step(0, 0, 1),
  PageDown: () => step(0, 0, -1),
};
// Beyond 9 a number takes several digits, typed within a second.
let digits = "", typed = 0;
function digit(key) {
  const number = performance.now() - typed < 1000 ? digits + key : key;
  const goesOn = facts.organs.some(found => String(found.id).startsWith(number));
  digits = goesOn ? number : key;
  typed = performance.now();
  const found = facts.organs.find(one => String(one.id) === digits);
  if (found) choose(found.name);
}
for (const key of "0123456789") KEYS[key] = () => digit(key);

const filter = one("#find-organ");
if (filter) {
  const shown = () => all("tr[data-organ]").filter(line => !line.hidden);
  filter.addEventListener("input", () => {
    const word = filter.value.trim().toLowerCase().replaceAll(" ", "_");
    for (const line of all("tr[data-organ]")) line.hidden = !line.dataset.organ.includes(word);
  });
  filter.addEventListener("keydown", event => {
    if (event.key === "Escape" && !filter.value) return filter.blur();
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (!shown().length) return;
    choose(shown()[0].dataset.organ);
    filter.value = "";
    filter.dispatchEvent(new Event("input"));
    filter.blur();
  });
  KEYS["/"] = () => filter.focus();
}

document.addEventListener("keydown", event => {
  const typing = event.target.matches("textarea, select, input:not([type=checkbox]):not([type=radio])");
  if (typing || event.altKey || event.metaKey || one("dialog[open]")) return;
  const name = event.ctrlKey ? `Ctrl+${event.key}` : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  // Arrows and the space bar are the page's own, unless the CT has the focus.
  const own = !event.ctrlKey && (event.key.length > 1 || event.key === " ");
  if (!KEYS[name] || (own && event.target !== canvas && event.key !== "Escape")) return;
  event.preventDefault();
  event.stopPropagation();
  KEYS[name]();
}, true);
one("#show-keys").addEventListener("click", KEYS["?"]);

// The lease: what is done renews it, once a minute; when it has run out, this is said.
const RENEW_MS = 60_000;
let ends = Date.now() + 1000 * facts.ends, renewed = Date.now();
export function lost(why) {
  facts.lost = true;
  const holds = one("#holds");
  one("#lease").className = "said error";
  holds.textContent = `${why} What you drew is kept. `;
  const take = document.createElement("button");
  take.textContent = "Take it again";
  take.addEventListener("click", async () => {
    try {
      await ask("POST", `/atlas8k/cases/${image}/take`, {});
      root.dispatchEvent(new Event("taken"));
      location.reload();
    } catch (error) {
      say(`${error.message} You can submit all the same: a reviewer decides between the two.`, true);
    }
  });
  holds.append(take);
}
export function keeps(until) {
  ends = 1000 * until;
  renewed = Date.now();
}
if (facts.lease) {
  setInterval(() => {
    const minutes = Math.max(0, Math.ceil((ends - Date.now()) / 60_000));
    if (facts.lost) return;
    one("#left").textContent = minutes >= 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes} min`;
    if (Date.now() > ends) lost("Your time with this case has run out; anybody may get it now.");
  }, 5000);
  for (const kind of ["keydown", "pointerdown", "wheel"]) addEventListener(kind, async () => {
    if (facts.lost || Date.now() - renewed < RENEW_MS) return;
    renewed = Date.now();
    try {
      keeps((await ask("POST", `/atlas8k/cases/${image}/renew`, { lease: facts.lease })).expires_at);
    } catch (error) {
      if (error.message.includes("not in your hands")) lost(`${error.message}.`);
    }
  }, { passive: true, capture: true });
}

choose(facts.organs[0].name, false);
begin();
