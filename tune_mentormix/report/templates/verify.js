// Shows one image after another, and keeps each answer at once: in this browser, and on the server where there is one.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const { images, classes, candidates, unclear } = data;
const body = document.body.dataset;
if (body.known) data.answers = JSON.parse(body.known);  // the server knows more than when the page was made
const storeKey = `verify ${body.experiment} ${data.fingerprint}`;
const element = (id) => document.getElementById(id);
const MAX_KEYS = 10;
const RETRY_MS = 5000;

let current = 0;
let storeWorks = true;
let exported = true;  // whether every answer of this visit is in a file or on the server
const kept = Object.create(null);  // where the browser keeps nothing
let unsent = {};  // answers the server does not have yet
let sending = false;

function stored() {
  try {
    return JSON.parse(localStorage.getItem(storeKey)) || {};
  } catch {
    return {};
  }
}

// What the experiment knows, what this browser keeps, and what neither could take, in this order.
function answers() {
  return { ...data.answers, ...stored(), ...kept };
}

function keep(image, answer) {
  kept[image] = answer;
  try {
    localStorage.setItem(storeKey, JSON.stringify({ ...stored(), [image]: answer }));  // another tab may add, too
    delete kept[image];
    storeWorks = true;
  } catch {
    storeWorks = false;
  }
}

// The server has these answers now: what others answer later must not be overwritten by what this browser kept.
function release(sent) {
  Object.assign(data.answers, sent);
  const left = Object.entries(stored()).filter(([image, value]) => sent[image] !== value);
  for (const [image, value] of Object.entries(sent)) if (kept[image] === value) delete kept[image];
  try {
    localStorage.setItem(storeKey, JSON.stringify(Object.fromEntries(left)));
  } catch {
    storeWorks = false;
  }
}

function answer(value) {
  if (!value && !answers()[images[current].image]) return;
  keep(images[current].image, value);
  exported = false;
  if (body.save) send(images[current].image, value);
  if (value) {
    const known = answers();
    const order = images.map((_, offset) => (current + 1 + offset) % images.length);
    current = order.find((position) => !known[images[position].image]) ?? current;
  }
  show();
}

function key(position) {
  const single = classes.every((name) => /^[0-9a-rt-z]$/.test(name));
  if (single) return classes[position];
  return "1234567890"[position];
}

// All classes where there are few; else the given label and what the candidates answer.
function offered(image) {
  if (classes.length <= MAX_KEYS) return classes.map((_, position) => position);
  const named = [image.given, ...Object.keys(image.votes).map(Number)];
  return [...new Set(named)].sort((a, b) => a - b).slice(0, MAX_KEYS);
}

function classButton(image, position, hotkey, given) {
  const button = document.createElement("button");
  button.type = "button";
  const votes = image.votes[position] || [];
  const who = [];
  if (position === image.given) who.push("given");
  if (votes.length) who.push(`${votes.length}/${candidates.length}`);
  for (const [tag, text, name] of [["kbd", hotkey, ""], ["span", classes[position], "name"], ["span", who.join(" · "), "who"]]) {
    const part = document.createElement(tag);
    part.textContent = text ?? "";
    part.className = name;
    if (text) button.append(part);
  }
  button.title = votes.length ? `So answer: ${votes.map((candidate) => candidates[candidate]).join(", ")}` : "";
  button.setAttribute("aria-pressed", String(given === classes[position]));
  if (hotkey) button.dataset.key = hotkey;
  // The second click of a double click would answer the next image.
  button.addEventListener("click", (event) => { if (event.detail < 2) answer(classes[position]); });
  return button;
}

function show() {
  const image = images[current], known = answers();
  element("card").hidden = false;
  element("picture").src = image.picture;
  element("picture").alt = `Image ${current + 1} of ${images.length}`;
  const mine = known[image.image];
  const now = mine === unclear ? "; answered: cannot tell" : mine ? `; answered: ${mine}` : "";
  element("about").textContent =
    `Image ${current + 1} of ${images.length} (${image.image}), labelled ${classes[image.given]}${now}`;
  const shown = offered(image);
  const few = classes.length <= MAX_KEYS;
  element("classes").replaceChildren(...shown.map((position, place) =>
    classButton(image, position, few ? key(position) : "1234567890"[place], mine)));
  element("other").hidden = few;
  element("unclear").setAttribute("aria-pressed", String(mine === unclear));
  element("clear").disabled = !mine;
  const done = images.filter(({ image: name }) => known[name]).length;
  element("progress").max = images.length;
  element("progress").value = done;
  element("count").textContent = `${done} of ${images.length} answered`;
  showSaved(done);
  for (const [position, item] of [...element("overview").children].entries()) {
    const button = item.firstChild, value = known[images[position].image];
    button.lastChild.textContent = value || "–";
    button.lastChild.className = value ? "" : "open";
    button.setAttribute("aria-label", `Image ${position + 1}${value ? `, answered ${value}` : ""}`);
    button.toggleAttribute("aria-current", position === current);
  }
}

function showSaved(done) {
  let text = "";
  const waiting = Object.keys(unsent).length;
  if (body.save) text = waiting ? `· ${waiting} not saved on the server yet, trying again` : "· saved on the server";
  else if (!storeWorks) text = "· this browser keeps nothing: save verify.csv before you close the page";
  else if (done === images.length) text = "· all answered: save verify.csv";
  element("saved").textContent = text;
}

function move(by) {
  current = Math.min(images.length - 1, Math.max(0, current + by));
  show();
}

function csv() {
  const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const known = answers();
  const lines = images.map(({ image, given }) => [image, classes[given], known[image] || ""].map(quote).join(","));
  return ["image,given,answer", ...lines, ""].join("\n");
}

function download() {
  const link = element("download");
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  exported = true;
}

function send(image, value) {
  unsent[image] = value;
  if (!sending) flush();
}

// One request at a time, with everything that waits; what fails is sent again.
async function flush() {
  sending = true;
  const batch = { ...unsent };
  let wait = 0;
  try {
    const form = new URLSearchParams({ csrf: body.csrf, answers: JSON.stringify(batch) });
    const response = await fetch(body.save, { method: "POST", body: form, headers: { Accept: "application/json" } });
    if (response.status === 401) throw new Error("signed out");
    if (!response.ok) throw new Error((await response.json()).detail);
    for (const [image, value] of Object.entries(batch)) if (unsent[image] === value) delete unsent[image];
    release(batch);
    exported = Object.keys(unsent).length === 0;
  } catch {
    wait = RETRY_MS;
  }
  show();
  if (Object.keys(unsent).length) setTimeout(flush, wait);
  else sending = false;
}

function choose() {
  const typed = element("class").value.trim().toLowerCase();
  const found = classes.find((name) => name.trim().toLowerCase() === typed);
  if (!found) { element("class").select(); return; }
  element("class").value = "";
  element("class").blur();
  answer(found);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.id === "class") {
    if (event.key === "Enter") { event.preventDefault(); choose(); }
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const button = [...element("classes").children].find(({ dataset }) => dataset.key === event.key);
  const actions = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), "?": () => answer(unclear),
    Backspace: () => answer(""), Delete: () => answer(""), s: () => element("download").click(),
    "/": () => { if (!element("other").hidden) element("class").focus(); } };
  const action = button ? () => answer(button.querySelector(".name").textContent) : actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

const once = (action) => (event) => { if (event.detail < 2) action(); };
element("back").addEventListener("click", () => move(-1));
element("next").addEventListener("click", () => move(1));
element("unclear").addEventListener("click", once(() => answer(unclear)));
element("clear").addEventListener("click", once(() => answer("")));
element("choose").addEventListener("click", once(choose));
element("download").addEventListener("click", download);
addEventListener("storage", (event) => {
  if (body.save && event.key === storeKey) Object.assign(data.answers, JSON.parse(event.oldValue || "{}"));
  show();  // what another tab answered, or the server took from it
});
addEventListener("beforeunload", (event) => {
  if (!exported && (body.save || !storeWorks)) event.preventDefault();
});

element("names").append(...classes.map((name) => Object.assign(document.createElement("option"), { value: name })));
element("overview").append(...images.map((image, position) => {
  const item = document.createElement("li"), button = document.createElement("button");
  button.type = "button";
  button.append(Object.assign(document.createElement("img"), { src: image.picture, alt: "", loading: "lazy" }),
    document.createElement("span"));
  button.addEventListener("click", () => { current = position; show(); scrollTo({ top: 0 }); });
  item.append(button);
  return item;
}));
if (body.save) {
  element("then").hidden = true;
  for (const [image, value] of Object.entries(stored())) if ((data.answers[image] || "") !== value) send(image, value);
}
const first = answers();
current = Math.max(0, images.findIndex(({ image }) => !first[image]));
if (images.length) show();
