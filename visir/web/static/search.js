// The search page: query images, hits that are marked, refined, compared and kept.

import { asked, fill } from "./asked.js";
import { ask, at, attempt, quiet, say } from "./common.js";
import "./original.js";

const MOST = 8;
const MOST_BYTES = 32 * 2 ** 20;
const UNMARKED = "Mark what is right and what is wrong.";
const form = document.getElementById("search");
const files = document.getElementById("files");
const drop = document.getElementById("drop");
const queries = document.getElementById("queries");
const results = document.getElementById("results");
const comparison = document.getElementById("comparison");
const keeping = document.getElementById("keeping");
const sent = new Map(); // list entries of images that are sent, to their files
const marks = new Map(); // gallery images to "hit" or "miss"

// ---- query images

function entry(source, name) {
  const entry = document.createElement("li");
  const picture = document.createElement("img");
  picture.src = source;
  picture.alt = name;
  const remove = document.createElement("button");
  remove.type = "button";
  remove.className = "remove";
  remove.textContent = "Remove";
  remove.setAttribute("aria-label", `Remove ${name}`);
  entry.append(picture, remove);
  return entry;
}

function add(list) {
  for (const file of list) {
    if (queries.children.length >= MOST) {
      say(`${MOST} images at most.`);
      break;
    }
    const made = entry(URL.createObjectURL(file), file.name || "pasted image");
    sent.set(made, file);
    queries.append(made);
  }
  marks.clear();
}

files.addEventListener("change", () => {
  add(files.files);
  files.value = "";
});
if (files.files.length) files.dispatchEvent(new Event("change")); // chosen before this ran
queries.addEventListener("click", (event) => {
  const gone = event.target.closest(".remove")?.parentElement;
  if (!gone) return;
  URL.revokeObjectURL(gone.querySelector("img").src);
  sent.delete(gone);
  gone.remove();
  marks.clear();
  files.focus();
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) add(event.clipboardData.files);
});

function indexed() {
  return [...queries.querySelectorAll("[data-item]")].map((one) => Number(one.dataset.item));
}

// ---- searching

function images() {
  const list = [...sent.values()];
  if (list.reduce((sum, file) => sum + file.size, 0) > MOST_BYTES) {
    throw new Error("the images are more than 32 MB together; send fewer or smaller ones");
  }
  return list;
}

function packed(list, wanted, field = "asked") {
  const body = new FormData();
  for (const file of list) body.append("images", file);
  body.append(field, JSON.stringify(wanted));
  return body;
}

async function show(asking) {
  results.classList.add("waiting");
  results.setAttribute("aria-busy", "true");
  const part = await attempt(asking);
  results.classList.remove("waiting");
  results.removeAttribute("aria-busy");
  if (part === undefined) return;
  results.innerHTML = part;
  for (const [item, mark] of marks) paint(item, mark);
  tally();
  remark();
  if (innerWidth <= 900) results.scrollIntoView();
  (results.querySelector(".look") ?? results).focus({ preventScroll: true });
}

function search() {
  marks.clear();
  return show(async () => {
    const [list, items] = [images(), indexed()];
    if (list.length && items.length) {
      throw new Error("search with images you send or with images of the gallery; take one kind away");
    }
    if (!list.length && !items.length) throw new Error("give an image of the person first");
    if (items.length) {
      return ask("/api/search/items", { json: { items, asked: asked() }, as: "page" });
    }
    return ask("/api/search", { form: packed(list, asked()), as: "page" });
  });
}

function seek(item) {
  sent.clear();
  const made = entry(at(`/api/items/${item}/thumbnail`), `image ${item}`);
  made.dataset.item = item;
  queries.replaceChildren(made);
  return search();
}

function marked(kind) {
  return [...marks].filter(([, mark]) => mark === kind).map(([item]) => item);
}

function refine() {
  const search = document.getElementById("found").dataset.search;
  const json = { search, hits: marked("hit"), misses: marked("miss"), asked: asked() };
  return show(() => ask("/api/refine", { json, as: "page" }));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});

// ---- marks

function card(item) {
  return results.querySelector(`.hit[data-item="${item}"]`);
}

function paint(item, mark) {
  const hit = card(item);
  if (!hit) return;
  if (mark) hit.dataset.mark = mark;
  else delete hit.dataset.mark;
  for (const kind of ["hit", "miss"]) {
    hit.querySelector(`[data-do="${kind}"]`).setAttribute("aria-pressed", String(mark === kind));
  }
}

function mark(item, kind) {
  const now = marks.get(item) === kind ? undefined : kind;
  if (now) marks.set(item, now);
  else marks.delete(item);
  paint(item, now);
  tally();
}

function tally() {
  const line = document.getElementById("tally");
  if (!line) return;
  const [right, wrong] = [marked("hit").length, marked("miss").length];
  line.textContent = right + wrong ? `${right} right, ${wrong} wrong` : UNMARKED;
  document.getElementById("refine").disabled = !(right + wrong);
  document.getElementById("keep").disabled = !keepable().length;
}

// ---- groups and poor crops

function cards(group) {
  return [...results.querySelectorAll(`.hit[data-group="${group}"]`)];
}

/** Show or hide the hits that stand behind the best one of their group. */
function unfold(item) {
  const [best, ...behind] = cards(card(item).dataset.group);
  if (!behind.length) return;
  const button = best.querySelector('[data-do="group"]');
  const open = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", String(open));
  for (const hit of behind) hit.hidden = !open;
  if (!open && document.activeElement !== button) best.querySelector(".look").focus();
}

/** Say which hits are poor crops, once they are shown. */
async function remark() {
  const items = [...results.querySelectorAll(".hit")].map((hit) => `item=${hit.dataset.item}`);
  if (!items.length) return;
  const found = await attempt(() => ask(`/api/remarks?${items.join("&")}`, { method: "GET" }));
  for (const { item, poor } of found ?? []) {
    const line = document.createElement("p");
    line.className = "doubt poor";
    line.textContent = `Poor crop: ${poor}`;
    if (!card(item)?.querySelector(".poor")) card(item)?.querySelector(".facts").append(line);
  }
}

// ---- comparing

async function compare(item) {
  const { searched } = document.getElementById("found").dataset;
  const items = indexed();
  const wanted = {
    items: [...items.slice(0, 1), item],
    modality: form.elements.modality.value,
    searched: Math.max(1, Number(searched)),
  };
  const list = items.length ? [] : images().slice(0, 1);
  if (!items.length && !list.length) {
    throw new Error("the query image is gone; give it again to compare");
  }
  say("Comparing …");
  comparison.innerHTML = await ask("/api/compare", { form: packed(list, wanted), as: "page" });
  quiet();
  comparison.showModal();
}

comparison.addEventListener("change", (event) => {
  if (event.target.id !== "heat") return;
  for (const layer of comparison.querySelectorAll(".heat")) {
    layer.classList.toggle("off", !event.target.checked);
  }
});

// ---- keeping

/** The images marked as right that are among the hits shown. */
function keepable() {
  return marked("hit").filter((item) => card(item));
}

async function keep() {
  if (!keepable().length) throw new Error("mark what is right first");
  const choice = document.getElementById("case-choice");
  const cases = (await ask("/api/cases", { method: "GET" })).filter((one) => !one.problem);
  const chosen = choice.value;
  choice.replaceChildren(
    ...cases.map((one) => new Option(one.name, one.id)),
    new Option("a new case", ""),
  );
  if (cases.some((one) => String(one.id) === chosen)) choice.value = chosen;
  naming();
  document.getElementById("case-query").closest("label").hidden = !sent.size;
  keeping.showModal();
}

function naming() {
  document.getElementById("case-new").hidden = document.getElementById("case-choice").value !== "";
}

async function kept() {
  let number = document.getElementById("case-choice").value;
  if (number === "") {
    const name = document.getElementById("case-name").value;
    number = (await ask("/api/cases", { json: { name } })).id;
  }
  const wanted = {
    search: document.getElementById("found").dataset.search,
    items: keepable(),
    note: document.getElementById("case-note").value,
  };
  const list = document.getElementById("case-query").checked ? images() : [];
  const done = await ask(`/api/cases/${number}/hits`, { form: packed(list, wanted, "kept") });
  keeping.close();
  document.getElementById("keep-form").reset();
  say(`Kept in ${done.name}.`);
}

document.getElementById("case-choice").addEventListener("change", naming);
document.getElementById("keep-cancel").addEventListener("click", () => keeping.close());
document.getElementById("keep-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(kept);
});

// ---- clicks and keys

const deeds = {
  compare: (item) => attempt(() => compare(item)),
  hit: (item) => mark(item, "hit"),
  miss: (item) => mark(item, "miss"),
  seek: (item) => seek(item),
  group: (item) => unfold(item),
  original: (item) => card(item).querySelector('[data-do="original"]').click(),
};
results.addEventListener("click", (event) => {
  if (event.target.id === "refine") refine();
  if (event.target.id === "keep") attempt(keep);
  const button = event.target.closest("[data-do]"); // an original is opened by its own module
  if (button && button.dataset.do !== "original") {
    deeds[button.dataset.do](Number(button.closest(".hit").dataset.item));
  }
});

function step(by) {
  const looks = [...results.querySelectorAll(".hit:not([hidden]) .look")];
  const at = looks.indexOf(document.activeElement?.closest?.(".hit")?.querySelector(".look"));
  looks[Math.min(looks.length - 1, Math.max(0, at + by))]?.focus();
}

const keys = {
  "/": () => files.focus(),
  "?": () => document.getElementById("help").showModal(),
  ArrowRight: () => step(1),
  ArrowLeft: () => step(-1),
  r: () => document.getElementById("refine")?.disabled === false && refine(),
  k: () => attempt(keep),
};
const onHit = { h: "hit", m: "miss", c: "compare", s: "seek", o: "original", g: "group" };
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not(#files), textarea, select, dialog[open]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const hit = event.target.closest(".hit");
  if (onHit[event.key] && hit) {
    event.preventDefault();
    deeds[onHit[event.key]](Number(hit.dataset.item));
  } else if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});

if (innerWidth <= 720) document.querySelector(".filters").open = false;
if (results.dataset.asked) {
  fill(JSON.parse(results.dataset.asked));
  for (const hit of results.querySelectorAll('.hit[data-mark="hit"]')) {
    marks.set(Number(hit.dataset.item), "hit");
  }
  tally();
  remark();
} else if (indexed().length) search();
