import { Pane, blend } from "/static/pane.js";

const at = (id) => document.getElementById(id);
const DEFAULTS = { image: "c0", other: "", a: "0", b: "", show: "image", head: "mean", strength: "0.6",
  level: "0.5", window: "1", x: "", y: "", kept: "", strangers: "1" };
const view = { ...DEFAULTS };
const images = new Map();
let panes = [], about = { encoders: [], images: 0 }, turn = 0, pending = null, busy = false;

async function ask(path, options) {
  const answer = await fetch(`/api/${path}`, options);
  if (answer.ok) return answer;
  let words = `the server answered ${answer.status}`;
  try { words = (await answer.json()).error; } catch { /* no JSON came */ }
  throw new Error(words);
}
const json = async (path) => (await ask(path)).json();

function say(words, wrong = false) {
  at("status").textContent = words;
  at("status").className = wrong ? "wrong" : "";
}

async function grey(key) {
  if (!images.has(key)) {
    const answer = await ask(`image/${key}`);
    const size = ["X-Height", "X-Width"].map((name) => Number(answer.headers.get(name)));
    const values = new Uint16Array(await answer.arrayBuffer());
    const told = await json(`facts/${key}`);
    images.set(key, { height: size[0], width: size[1], values, ...told });
    if (images.size > 40) images.delete(images.keys().next().value);
  }
  return images.get(key);
}

const named = (key) => (key.startsWith("c") ? `image ${key.slice(1)}` : `dropped-in image ${key.slice(1)}`);

function remember() {
  const told = Object.entries(view).filter(([name, value]) => value !== DEFAULTS[name]);
  history.replaceState(null, "", `#${new URLSearchParams(told)}`);
}

function recall() {
  Object.assign(view, DEFAULTS);
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (name in view) view[name] = value;
  if (!about.images && view.image.startsWith("c")) view.image = "";
}

function show() {
  at("row").value = view.image.startsWith("c") ? view.image.slice(1) : "";
  at("other-row").value = view.other.startsWith("c") ? view.other.slice(1) : "";
  for (const id of ["a", "b", "show", "strength", "level", "window", "head"]) at(id).value = view[id];
  at("strangers").checked = view.strangers === "1";
  at("head-label").hidden = view.show !== "attention";
}

async function layout() {
  const mine = ++turn;
  show();
  if (!view.image) return say("Drop in an image: there is no corpus to choose from.");
  try {
    say("Loading …");
    const keys = [...new Set([view.image, view.other].filter(Boolean))];
    const encoders = [...new Set([view.a, view.b].filter((one) => one !== ""))];
    const loaded = new Map();
    for (const key of keys) loaded.set(key, await grey(key));
    if (mine !== turn) return;
    const old = panes;
    panes = encoders.flatMap((encoder) => keys.map((key) => {
      const kept = old.find((one) => one.encoder === encoder && one.key === key);
      return kept ?? new Pane(encoder, key, loaded.get(key), { point, moved });
    }));
    at("panes").replaceChildren(...panes.map((one) => one.figure));
    for (const one of panes) {
      const { facts, labels } = loaded.get(one.key);
      one.label(`${named(one.key)}, ${about.encoders[one.encoder]?.name ?? "no such encoder"}`,
        [facts, labels.join(", ")].filter(Boolean).join("; "));
    }
    say("");
    await layer(mine);
  } catch (error) { if (mine === turn) say(error.message, true); }
}

async function layer(mine = turn) {
  for (const one of panes) one.window(Number(view.level), Number(view.window));
  if (view.show !== "similarity") panes.forEach((one) => one.mark(null));
  if (view.show === "image") panes.forEach((one) => one.cover(null));
  if (view.show === "similarity") await similar();
  if (view.show === "attention") await attend(mine);
  if (view.show === "colours") {
    for (const encoder of new Set(panes.map((one) => one.encoder))) {
      const other = view.other ? `?other=${view.other}` : "";
      const found = await json(`colours/${encoder}/${view.image}${other}`);
      if (mine !== turn) return;
      put(encoder, found, (rgb) => rgb);
    }
  }
}

function put(encoder, found, colour) {
  for (const one of panes) {
    if (one.encoder === encoder && found[one.key]) one.cover(found[one.key], colour, Number(view.strength));
  }
}

async function attend(mine) {
  for (const one of panes) {
    const found = await json(`attention/${one.encoder}/${one.key}`);
    if (mine !== turn) return;
    const names = ["mean", ...Array.from({ length: found.heads }, (_, i) => String(i + 1))];
    if (at("head").length !== names.length) {
      at("head").replaceChildren(...names.map((name) => new Option(name, name)));
      at("head").value = view.head;
    }
    const head = Number(view.head);
    const value = (all) => (head ? all[head - 1] ?? 0 : all.reduce((sum, v) => sum + v, 0) / all.length);
    one.cover(found, (all) => blend(value(all)), Number(view.strength));
  }
}

async function similar() {
  for (const one of panes) one.mark(one.key === view.image && view.x !== "" ? [Number(view.x), Number(view.y)] : null);
  if (view.x === "") { panes.forEach((one) => one.cover(null)); return say("Point at the first image, or click to keep a point."); }
  const query = new URLSearchParams({ x: view.x, y: view.y });
  if (view.other) query.set("other", view.other);
  for (const encoder of new Set(panes.map((one) => one.encoder))) {
    const found = await json(`similarity/${encoder}/${view.image}?${query}`);
    put(encoder, found, (cosine) => blend(Math.max(cosine, 0)));
  }
  say(`Similarity to the point at ${Math.round(view.x * 100)} % across, ${Math.round(view.y * 100)} % down${view.kept ? " (kept)" : ""}.`);
}

function point(pane, x, y, kept) {
  if (view.show !== "similarity" || pane.key !== view.image || (view.kept && !kept)) return;
  if (x < 0 || y < 0 || x >= 1 || y >= 1) return;
  pending = { x: x.toFixed(4), y: y.toFixed(4), kept: kept ? "1" : "" };
  if (!busy) drain();
}

async function drain() {
  busy = true;
  while (pending) {
    Object.assign(view, pending);
    pending = null;
    remember();
    try { await similar(); } catch (error) { say(error.message, true); }
  }
  busy = false;
}

const moved = (from) => panes.forEach((one) => { if (one !== from) one.follow(from); });

async function search() {
  const rows = [];
  try {
    say("Searching; the first time, features may have to be computed …");
    for (const encoder of new Set([view.a, view.b].filter((one) => one !== ""))) {
      const found = await json(`neighbours/${encoder}/${view.image}?strangers=${view.strangers === "1"}`);
      const title = document.createElement("h3");
      title.textContent = about.encoders[encoder].name;
      const row = document.createElement("div");
      row.className = "row";
      for (const one of found) {
        const button = document.createElement("button");
        button.type = "button";
        const text = document.createElement("span");
        text.textContent = `${named(one.key)}, cosine ${one.cosine.toFixed(3)}. ${[one.facts, ...one.labels].filter(Boolean).join(", ")}`;
        button.append(Pane.small(await grey(one.key)), text);
        button.addEventListener("click", () => { view.other = one.key; remember(); layout(); scrollTo(0, 0); });
        row.append(button);
      }
      rows.push(title, row);
    }
    at("found").replaceChildren(...rows);
    say("A neighbour that is clicked is compared.");
  } catch (error) { say(error.message, true); }
}

async function drop(file) {
  try {
    say("Reading …");
    view.image = (await (await ask("drop", { method: "POST", body: file })).json()).key;
    Object.assign(view, { x: "", y: "", kept: "" });
    at("found").replaceChildren();
    remember();
    await layout();
  } catch (error) { say(error.message, true); }
}

function change(id, name, key = (value) => value) {
  at(id).addEventListener("change", () => {
    view[name] = key(at(id).value);
    if (name === "image") { Object.assign(view, { x: "", y: "", kept: "" }); at("found").replaceChildren(); }
    remember();
    layout();
  });
}

const row = (value) => (value === "" ? "" : `c${value}`);
change("row", "image", row);
change("other-row", "other", row);
for (const id of ["a", "b", "show", "head"]) change(id, id);
for (const id of ["strength", "level", "window"]) {
  at(id).addEventListener("input", () => {
    view[id] = at(id).value;
    remember();
    for (const one of panes) { one.window(Number(view.level), Number(view.window)); one.fade(Number(view.strength)); }
  });
}
at("strangers").addEventListener("change", () => { view.strangers = at("strangers").checked ? "1" : "0"; remember(); });
at("search").addEventListener("click", search);
at("reset").addEventListener("click", () => {
  Object.assign(view, { level: "0.5", window: "1" });
  remember();
  panes.forEach((one) => one.whole());
  layout();
});
at("file").addEventListener("change", () => { if (at("file").files.length) drop(at("file").files[0]); });
at("controls").addEventListener("submit", (event) => event.preventDefault());
addEventListener("keydown", (event) => { if (event.key === "Escape") { view.kept = ""; remember(); } });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) drop(event.dataTransfer.files[0]);
});
addEventListener("hashchange", () => { recall(); layout(); });

try {
  about = await json("state");
  const options = () => about.encoders.map((one, i) => new Option(one.name, i));
  at("a").append(...options());
  at("b").append(new Option("none", ""), ...options());
  DEFAULTS.b = about.encoders.length > 1 ? "1" : "";
  at("head").append(new Option("mean", "mean"));
  for (const id of ["row", "other-row"]) { at(id).max = about.images - 1; at(id).disabled = !about.images; }
  at("near").hidden = !about.images;
  recall();
  await layout();
} catch (error) { say(error.message, true); }
