// Drawing on the page of a case: tools, what is kept as one draws, submitting.
//
// Every few seconds what is drawn goes into the browser's own store and then to the server, which
// takes it only on top of the version that this page has seen. What the server has, the browser
// forgets; what it could not be given is shown again by the next visit. Of a CT that is too large
// for a browser, a block is drawn on, and the server lays it into the label.
import { KEYS, asImage, before, choose, closer, fetched, keeps, mark, nv, organ, words } from "./case.js";

import { STROKES, forgetStrokes, refine } from "./strokes.js";

const root = one("#case");
const facts = JSON.parse(root.dataset.facts);
const image = encodeURIComponent(facts.image);
const ours = `/atlas8k/cases/${image}`;
const PLANES = ["axial", "coronal", "sagittal"];
const KEPT = 24, MOST_UNDO = KEPT - 2; // labels that NiiVue keeps to undo
const thinned = facts.view === "thinned"; // then it is looked at, and drawn on blocks
const SAVE_MS = 4000, AGAIN_MS = 15_000;

let base = null; // the label that the case began with
let restored = false; // what was drawn before is shown: until then nothing else may be drawn, saved or submitted
let tool = "look", size = 5, plane = "axial", depth = 0, undone = 0;
let version = facts.drawing.version, dirty = false, saving = null, stopped = false, tried = 0;

// Requests of which the status counts.
async function send(method, url, body) {
  let answer;
  try {
    answer = await fetch(url, { method, body });
  } catch {
    return { code: 0, why: "The server does not answer." };
  }
  const found = await answer.json().catch(() => ({}));
  const why = `${found.detail || `The server says ${answer.status}`}.`;
  return { code: answer.status, found, why };
}

// The browser's own store.
const opened = new Promise((done, fail) => {
  const asked = indexedDB.open("atlas8k", 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore("drawings");
  asked.onsuccess = () => done(asked.result);
  asked.onerror = () => fail(asked.error);
});
opened.catch(() => {});
const mine = `${facts.me} ${facts.image}`, key = facts.box ? `${mine}\n${facts.box}` : mine;
const ofThis = found => found === mine || found.startsWith(`${mine}\n`);
async function forget() {
  for (const found of await own("readonly", store => store.getAllKeys()) || [])
    if (ofThis(found)) await own("readwrite", store => store.delete(found));
}
async function own(mode, act) {
  try {
    const store = (await opened).transaction("drawings", mode).objectStore("drawings");
    return await new Promise((done, fail) => {
      const asked = act(store);
      asked.onsuccess = () => done(asked.result);
      asked.onerror = () => fail(asked.error);
    });
  } catch { // a private window, or no room: then the server's copy is the only one
    return undefined;
  }
}

// What is drawn, as a file.
async function drawn() {
  const bytes = await nv.saveImage({ filename: "", isSaveDrawing: true });
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(packed).blob();
}
// Shows a file as what is drawn; it can be undone.
async function put(blob) {
  const past = nv.drawUndoBitmaps, number = nv.currentDrawUndoBitmap;
  if (!nv.loadDrawing(await asImage(blob, "label"))) throw new Error("it does not fit this CT");
  nv.drawUndoBitmaps = past;
  nv.currentDrawUndoBitmap = number;
  nv.drawAddUndoBitmap();
}

// What is said.
const rows = () => all("tr[data-organ]");
function said() {
  const note = { comment: one("#comment").value.trim(),
    difficulty: one("[name=difficulty]:checked")?.value || "",
    kinds: all("[name=kind]:checked").map(box => box.value) };
  const organs = Object.fromEntries(rows().map(row => [row.dataset.organ, one("select", row).value]));
  const right = rows().filter(row => one(".odd input", row).checked).map(row => row.dataset.organ);
  return { organs, right, note };
}
function restore({ organs = {}, right = [], note = {} }) {
  for (const row of rows()) {
    one("select", row).value = organs[row.dataset.organ] || "";
    one(".odd input", row).checked = right.includes(row.dataset.organ);
  }
  one("#comment").value = note.comment || "";
  for (const box of all("[name=kind]")) box.checked = (note.kinds || []).includes(box.value);
  for (const box of all("[name=difficulty]")) box.checked = box.value === note.difficulty;
}

// Volumes, and which organs are other ones than at the beginning.
let counts = null; // voxels by organ, those around the block that is shown included
function measure() {
  const now = thinned ? [] : nv.drawBitmap, { voxels, changed: elsewhere } = facts.outside;
  const begun = new Uint32Array(256), differs = new Uint8Array(256);
  counts = new Uint32Array(256);
  for (let i = 0; i < now.length; i++) {
    const a = now[i], b = base[i];
    counts[a]++;
    begun[b]++;
    if (a !== b) differs[a] = differs[b] = 1;
  }
  for (const { id, name, asked } of facts.organs) {
    const row = one(`tr[data-organ="${name}"]`), around = voxels[name] || 0;
    const [low, high] = asked, state = one("select", row).value;
    begun[id] += around;
    if (state !== "absent") counts[id] += around;
    const ml = counts[id] * facts.voxel_ml;
    one(".ml", row).textContent = counts[id] ? ml.toFixed(0) : "none";
    one(".odd", row).hidden = !counts[id] || (ml >= low && ml <= high);
    if (!counts[id] && begun[id]) mark(name, "absent");
    else if ((differs[id] || elsewhere.includes(name)) && state !== "changed") mark(name, "changed");
    else if (counts[id] && state === "absent") mark(name, "");
  }
}

function unsaved() {
  if (!nv) return;
  dirty = true;
  if (!stopped) status("Not saved yet"); // else what it says of that has to stay, with its buttons
}

let soon = 0;
function changed() {
  if (STROKES[tool] && !asking) clean = nv.drawBitmap.slice();
  unsaved();
  depth = Math.min(depth + 1, MOST_UNDO);
  undone = 0;
  clearTimeout(soon);
  soon = setTimeout(measure, 150);
}
function redraw() {
  nv.drawAddUndoBitmap();
  nv.refreshDrawing(true);
  changed();
}

// Strokes: what is drawn with their pen is no label but a question, which the server answers.
let clean = null, asking = false, told = false; // `clean`: the label without the stroke
async function announce() {
  if (told) return;
  told = true;
  const { found } = await send("GET", `${ours}/strokes`);
  offer(found && found.nninteractive);
  told = Boolean(found) && !found.nninteractive?.why_not; // else it is asked again
  say(found && !found.ready ? "The networks have not predicted this CT yet: the first stroke waits until they have."
    : `Draw through the middle of what is wrong: S where the ${words(organ.name)} is missing, R where it is too much.`);
}
function offer(outside) { // a server of nnInteractive, where one is set
  if (!outside) return;
  const option = new Option(`nnInteractive, weights under ${outside.licence || "?"}`, "nninteractive");
  option.disabled = Boolean(outside.why_not);
  one("#by").options[1]?.remove();
  one("#by").add(option);
  one("#by").title = outside.why_not;
  one("#by").onchange = () => say(one("#by").value === "networks" ? "" :
    `nnInteractive: the licence of its weights is ${outside.licence}. That is kept with the organs you draw with it.`);
  one("#by-box").hidden = false;
}
async function stroked() {
  const from = performance.now(), last = nv.currentDrawUndoBitmap - 1;
  asking = true;
  apply();
  one("#tools").ariaBusy = "true";
  let answer = null;
  try {
    answer = await refine(nv, ours, facts.box, organ, clean, one("#by").value);
  } catch (error) {
    say(`Nothing was changed: ${error.message}`, true);
  }
  nv.drawBitmap = answer ? answer.label : clean.slice();
  nv.currentDrawUndoBitmap = last < 0 ? nv.drawUndoBitmaps.length - 1 : last; // of before the stroke
  asking = false;
  one("#tools").ariaBusy = "false";
  apply();
  if (!answer) return nv.refreshDrawing(true);
  redraw();
  const seconds = ((performance.now() - from) / 1000).toFixed(1);
  const note = answer.note ? ` ${answer.note[0].toUpperCase()}${answer.note.slice(1)}.` : "";
  say(`${words(organ.name)}: ${answer.added} ml more, ${answer.removed} ml less, ${seconds} s.${note}`);
}
function drew(action) {
  if (action !== "draw") return;
  if (STROKES[tool]) stroked();
  else changed();
}

// Tools.
function use(name) {
  if (thinned && name !== "look") return closer();
  if (!restored && name !== "look") return;
  if (STROKES[name] && !STROKES[tool]) clean = nv.drawBitmap.slice();
  tool = name;
  if (STROKES[tool]) announce();
  for (const button of all("[data-tool]"))
    button.ariaPressed = String(button.dataset.tool === tool);
  apply();
}
function apply() {
  if (!nv) return;
  nv.opts.penSize = STROKES[tool] ? 1 : size;
  nv.setDrawingEnabled(tool !== "look" && !asking);
  nv.setPenValue(STROKES[tool] || (tool === "eraser" ? 0 : organ.id), tool === "fill");
  one("#size").value = size;
}
const grow = by => {
  size = Math.min(Math.max(size + by, 1), 41);
  apply();
};
function undo() {
  if (asking) return;
  forgetStrokes();
  if (!depth) return say("There is nothing to undo.");
  const more = undone + 1;
  nv.drawUndo();
  depth -= 2; // `changed` counts one more
  changed();
  undone = more;
}
function redo() {
  if (asking) return;
  if (!undone) return say("There is nothing to redo.");
  const more = undone - 1;
  nv.currentDrawUndoBitmap = (nv.currentDrawUndoBitmap + 1) % KEPT + 1; // it goes one back, to the next
  nv.drawUndo();
  changed();
  undone = more;
}
function paint() { // by keyboard: at the crosshair
  if (asking) return;
  if (tool === "look") return say("Choose the brush or the eraser first (B, E).");
  nv.drawPenAxCorSag = PLANES.indexOf(plane);
  nv.drawPt(...nv.frac2vox(nv.scene.crosshairPos), STROKES[tool] || (tool === "eraser" ? 0 : organ.id));
  nv.drawPenAxCorSag = -1;
  if (!STROKES[tool]) return redraw();
  nv.drawAddUndoBitmap();
  stroked();
}
function remove(id) {
  if (asking) return say("The stroke is not answered yet: wait for it, then say it again.", true);
  const now = nv.drawBitmap;
  let any = false;
  for (let i = 0; i < now.length; i++) if (now[i] === id) {
    now[i] = 0;
    any = true;
  }
  if (any) redraw();
}
async function change(what, done) {
  const body = new FormData();
  body.append("label", await drawn(), "label.nii.gz");
  body.append("do", what);
  body.append("organ", organ.name);
  body.append("plane", plane);
  body.append("box", facts.box);
  if (what === "take") {
    const from = one(`[data-layer="${one("#from").value}"]`).dataset;
    body.append("other", await fetched(from.url, from.method), "other.nii.gz");
  }
  const answer = await fetch(`${ours}/change`, { method: "POST", body });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || answer.status);
  await put(await answer.blob());
  changed();
  say(done(Number(answer.headers.get("x-slices"))));
}
const CHANGES = {
  between: slices => slices ? `${slices} ${plane} slices of the ${words(organ.name)} were filled.`
    : `There was nothing to fill: draw the ${words(organ.name)} in two ${plane} slices at most 3 cm apart.`,
  largest: () => `No more than the largest piece of the ${words(organ.name)} is left.`,
  take: () => `The ${words(organ.name)} was taken over.`,
};
async function run(what) {
  if (!nv || !restored || asking) return;
  one("#tools").ariaBusy = "true";
  try {
    await change(what, CHANGES[what]);
  } catch (error) {
    say(`Nothing was changed: ${error.message}`, true);
  }
  one("#tools").ariaBusy = "false";
}

// Keeping what is drawn.
function status(text, bad = false, ...more) {
  const at = one("#saved");
  at.className = bad ? "said error" : "soft";
  at.replaceChildren(text, ...more);
}
function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "small";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}
function link(blob, text = "Download what you drew") {
  if (!blob) return []; // nothing was drawn, organs were marked
  const made = document.createElement("a");
  made.href = URL.createObjectURL(blob);
  made.download = `${facts.image}.drawn.nii.gz`;
  made.textContent = text;
  return [made];
}
const clock = seconds => new Date(seconds * 1000).toLocaleTimeString([], { timeStyle: "short" });

async function save() {
  dirty = false;
  tried = Date.now();
  const words_ = said(), label = thinned ? null : await drawn();
  await own("readwrite", store => store.put({ label, said: words_, version,
    fingerprint: facts.fingerprint, at: Date.now(), where: location.href }, key));
  const body = new FormData();
  if (label) body.append("label", label, "label.nii.gz");
  body.append("box", facts.box);
  body.append("version", version);
  body.append("fingerprint", facts.fingerprint);
  body.append("said", JSON.stringify(words_));
  body.append("lease", facts.lease);
  const { code, found, why } = await send("PUT", `${ours}/drawing`, body);
  if (code === 200) {
    version = found.version;
    if (found.expires_at) keeps(found.expires_at);
    if (dirty) return status("Not saved yet"); // more was drawn or written meanwhile
    await own("readwrite", store => store.delete(key));
    return status(`Saved at ${clock(found.saved_at)}.`);
  }
  if (code === 0 || code === 401 || code >= 500) { // away, not signed in any more, or its disk is full
    dirty = true;
    return status(`Not saved on the server: ${why} What you drew is kept in this browser and sent `
      + "again until the server takes it. ", true, ...link(label));
  }
  stopped = true;
  const now = await send("GET", `${ours}/drawing`);
  if (code === 409 && now.code === 200 && now.found.version !== version && now.found.version) {
    return status(`${why} Which one counts? `, true,
      button("Show the other one", async () => {
        await own("readwrite", store => store.delete(key));
        dirty = false;
        location.reload();
      }), " ",
      button("Keep this one", () => {
        version = now.found.version;
        stopped = false;
        dirty = true;
      }), " ", ...link(label));
  }
  status(`Not saved on the server: ${why} It is kept in this browser. `, true, ...link(label));
}
async function keep(at_once = false) {
  if (saving) return saving;
  if (!restored || !dirty || stopped || asking || !nv || (!at_once && Date.now() - tried < wait())) return;
  saving = save().catch(error => {
    dirty = true;
    status(`Not saved: ${error.message}. It is tried again.`, true);
  });
  await saving;
  saving = null;
}
const wait = () => one("#saved").className.includes("error") ? AGAIN_MS : SAVE_MS;
setInterval(keep, 1000);
addEventListener("online", () => { tried = 0; });
document.addEventListener("visibilitychange", () => keep(true)); // on coming back, too: one may have signed in
addEventListener("beforeunload", event => { if (dirty || saving) event.preventDefault(); });

// The first sight of the label: what was drawn before comes back.
root.addEventListener("shown", async () => {
  if (!nv.drawBitmap) nv.createEmptyDrawing();
  if (!thinned) base = nv.drawBitmap.slice();
  nv.onDrawingChanged = drew;
  const kept = await own("readonly", store => store.get(key)), server = facts.drawing;
  const keys = await own("readonly", store => store.getAllKeys()) || [];
  const elsewhere = await Promise.all(keys.filter(found => ofThis(found) && found !== key)
    .map(found => own("readonly", store => store.get(found))));
  const other = elsewhere.find(found => found?.label && found.fingerprint === facts.fingerprint
    && found.version >= server.version);
  try {
    if (other) {
      stopped = true; // until it is there: the server takes one after the other
      status("What you drew in another part of this CT was not saved on the server yet. ", true,
        button("Go there", () => location.assign(other.where)), " ", ...link(other.label));
    } else if (kept && kept.fingerprint === facts.fingerprint && kept.version >= server.version) {
      if (kept.label && !thinned) await put(kept.label);
      restore(kept.said);
      dirty = true;
      status("This is what you drew here; it was not saved on the server yet. ", false, anew());
    } else if (server.version && server.fingerprint === facts.fingerprint) {
      if (!thinned) await put(await fetched(facts.drawn, facts.method));
      restore(server.said);
      status(`You go on with what you drew, saved at ${clock(server.saved_at)}. `, false, anew(),
        ...(kept ? [" ", ...link(kept.label, "An older one of this browser")] : []));
    } else if (server.version || kept) {
      const label = kept ? kept.label : await fetched(`${ours}/drawing/label`);
      stopped = true;
      status("The CT was replaced since you drew on it; what you drew belongs to the one before. ",
        true, ...link(label), " ", anew());
    }
    restored = !other;
  } catch (error) {
    stopped = true;
    status(`What you drew before cannot be shown: ${error.message}. Load the page again, or: `, true, anew());
  }
  if (restored) measure();
  use("look");
  one("#tools").hidden = thinned || !restored;
});
const anew = () => button("Begin anew", async () => {
  if (!confirm("Forget what you drew, and begin with the label that was given out?")) return;
  dirty = false;
  stopped = true;
  await forget();
  await send("DELETE", `${ours}/drawing`);
  location.reload();
});

// Submitting.
async function submit() {
  if (asking) return say("The stroke is not answered yet: wait for it, then submit.", true);
  if (nv && !restored) return say("Not submitted: the CT, or what you drew before, is not shown yet. Wait for it, or load the page again.", true);
  const { organs, right, note } = said(), states = Object.entries(organs);
  const of = (...wanted) => states.filter(([, state]) => wanted.includes(state)).map(([name]) => name);
  const words_ = { absent: of("absent"), looked_at: of("correct", "changed"), volume_is_right: right };
  if (!words_.absent.length && !words_.looked_at.length)
    return say("Say of at least one organ what it is: 1 to 9 choose it, C is correct, A absent.", true);
  const send_ = one("#submit"), kept = nv ? null : await own("readonly", store => store.get(key));
  if (kept?.label) // it cannot be shown here, nor sent unseen
    return say("Not submitted: what you drew in this browser is not on the server yet, and this page cannot show it. "
      + "Open the case where the CT is shown in three planes; nothing of it is lost.", true);
  send_.disabled = true;
  say("Submitting…");
  await saving;
  const stays = stopped; // where what was drawn before is not shown, it is not to be saved over
  let answer;
  if (nv && facts.view !== "whole") await keep(true);
  if (nv && facts.view !== "whole" && dirty) {
    send_.disabled = false;
    return say("Not submitted: what you drew is not saved on the server yet.", true);
  }
  const json = (where, more) => ask("POST", `${ours}/${where}`, { ...words_, note, lease: facts.lease, ...more })
    .then(found => ({ code: 200, found }), error => ({ code: 0, why: error.message }));
  // Without the viewer: as it was saved last.
  if ((facts.view !== "whole" || !nv) && version) answer = await json("drawing/submit", { version });
  else if (nv && facts.view === "whole") {
    const body = new FormData(), label_info = facts.organs.map(({ id, name }) => ({ name, idx: id }));
    body.append("label", await drawn(), "label.nii.gz");
    body.append("params", JSON.stringify({ ...words_, note, label_info, lease: facts.lease }));
    stopped = true;
    answer = await send("PUT", `/datastore/label?image=${image}`, body);
  } else answer = await json("confirm");
  const { code, found, why } = answer;
  if (code !== 200) {
    stopped = stays;
    send_.disabled = false;
    return say(`Not submitted: ${why} Nothing of it is lost.`, true);
  }
  dirty = false;
  await forget();
  let text = `${facts.image} is submitted: ${found.recorded}.`;
  if (found.conflict || !found.in_force) text += " Somebody else's came first: a reviewer decides.";
  if (found.asked) text += ` Asked: ${Object.entries(found.asked).map(([name, what]) => `${words(name)}, ${what}`).join("; ")}.`;
  sessionStorage.setItem("said", text);
  location.assign(`/atlas8k/case?image=${image}`);
}

// Hands.
for (const button of all("[data-tool]")) button.addEventListener("click", () => use(button.dataset.tool));
for (const button of all("[data-change]")) button.addEventListener("click", () => run(button.dataset.change));
one("#undo").addEventListener("click", undo);
one("#redo").addEventListener("click", redo);
one("#size").addEventListener("input", () => { size = Number(one("#size").value); apply(); });
one("#submit").addEventListener("click", submit);
one("#all-right").addEventListener("click", () => {
  for (const { id, name } of facts.organs)
    if (!one("select", one(`tr[data-organ="${name}"]`)).value && (counts ? counts[id] : facts.there.includes(name)))
      mark(name, "correct");
});
for (const row of rows()) one("select", row).addEventListener("change", event => {
  const { id } = facts.organs.find(found => found.name === row.dataset.organ);
  if (event.isTrusted) choose(row.dataset.organ); // not where the page itself says: changed
  if (nv && counts?.[id] && one("select", row).value === "absent") remove(id);
  unsaved();
});
for (const field of all("#comment, [name=kind], [name=difficulty], .odd input"))
  field.addEventListener("input", unsaved);
root.addEventListener("organ", () => { forgetStrokes(); apply(); });
one("#gl").addEventListener("pointerdown", event => {
  if (!nv) return;
  const scale = nv.uiData.dpr || 1, tile = nv.tileIndex(event.offsetX * scale, event.offsetY * scale);
  plane = PLANES[nv.screenSlices[tile]?.axCorSag] || plane;
});
before.leaving = () => keep(true);
Object.assign(KEYS, {
  s: () => use("stroke"), r: () => use("not"),
  b: () => use("brush"), e: () => use("eraser"), f: () => use("fill"), Escape: () => use("look"),
  "[": () => grow(-2), "]": () => grow(2), i: () => run("between"), k: () => run("largest"),
  "Ctrl+z": undo, "Ctrl+Z": redo, "Ctrl+y": redo, "Ctrl+Enter": submit, " ": paint,
});
