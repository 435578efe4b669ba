// Keeps the page as new as what serf-haproxy publishes. Without it the page is as it was when it was loaded.
"use strict";

const head = document.getElementById("head");
const body = document.getElementById("body");
const lost = document.getElementById("lost");
let shown = null; // the number of what the body shows
let latest = null; // the number of what there is
let fetching = false;

// What a reader has open, and where the keyboard is, stays.
function replaceBody(html) {
  const key = (element) => element.closest("[data-key]")?.dataset.key;
  const open = new Set([...body.querySelectorAll("details[open]")].map(key));
  const active = document.activeElement;
  const focused = body.contains(active) ? key(active) : undefined;
  body.innerHTML = html;
  for (const details of body.querySelectorAll("details[data-key]")) {
    if (open.has(details.dataset.key)) details.open = true;
    if (focused !== undefined && details.dataset.key === focused) {
      details.querySelector("summary").focus({ preventScroll: true });
    }
  }
}

function spreadAges() {
  const ages = new Map();
  for (const age of head.querySelectorAll("[data-age]")) ages.set(age.dataset.age, age.textContent);
  for (const age of body.querySelectorAll("details[open] [data-age-of]")) {
    const text = ages.get(age.dataset.ageOf);
    if (text !== undefined && age.textContent !== text) age.textContent = text;
  }
}

// One question at a time, and none while nobody looks.
async function follow() {
  if (fetching || document.hidden || latest === null || latest === shown) return;
  fetching = true;
  const wanted = latest;
  try {
    const answer = await fetch("/body", { cache: "no-store" });
    if (answer.ok) {
      replaceBody(await answer.text());
      shown = wanted;
    }
  } catch {
    // The connection of the events says so, too, and comes back.
  }
  fetching = false;
  if (latest !== shown) setTimeout(follow, 500);
}

const events = new EventSource("/events?page");
events.addEventListener("head", (event) => {
  lost.hidden = true;
  const html = JSON.parse(event.data);
  if (!head.contains(document.activeElement) && getSelection().isCollapsed) head.innerHTML = html;
  spreadAges();
});
events.addEventListener("body", (event) => {
  latest = event.data;
  follow();
});
events.addEventListener("error", () => {
  if (lost.hidden) lost.querySelector("b").textContent = new Date().toLocaleTimeString();
  lost.hidden = false;
  // A number says nothing any more where another process answers.
  shown = null;
});
document.addEventListener("visibilitychange", follow);
document.addEventListener("toggle", spreadAges, true);
