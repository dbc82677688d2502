// Keeps what is marked data-live fresh: an event tells that something has changed, and the page is fetched again.
"use strict";
const main = document.querySelector("main[data-events]");
const MIN_MS = 2000;
let last = 0;
let timer = null;
let leaving = false;  // a form was sent: loading this page again would stop that

async function refresh() {
  timer = null;
  last = Date.now();
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (leaving) return;
  if (response.status === 401) { location.assign("/login"); return; }
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  if (fresh.querySelector(".actions form")?.action !== document.querySelector(".actions form")?.action) {
    location.reload();  // it started or ended: other buttons
    return;
  }
  for (const part of document.querySelectorAll("[data-live]")) {
    const newer = fresh.getElementById(part.id);
    if (!newer || part.contains(document.activeElement)) continue;
    const ticked = [...part.querySelectorAll("input:checked")].map((box) => box.value);
    part.replaceWith(newer);
    for (const box of newer.querySelectorAll("input[type=checkbox]")) box.checked = ticked.includes(box.value);
  }
  document.dispatchEvent(new CustomEvent("refreshed"));
}

if (main && "EventSource" in window) {
  const events = new EventSource(main.dataset.events);
  events.addEventListener("progress", (event) => {
    if (event.data === main.dataset.now) return;  // the page is as new as that
    main.dataset.now = event.data;
    if (timer === null) timer = setTimeout(() => refresh().catch(() => {}), Math.max(0, last + MIN_MS - Date.now()));
  });
  addEventListener("submit", () => { leaving = true; });
  addEventListener("pagehide", () => events.close());
}
