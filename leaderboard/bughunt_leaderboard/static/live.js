// Keeps the parts of a page that are marked data-live as they are on the server, and the clocks running.
"use strict";

const live = document.querySelector("[data-live]");
let busy = false, again = false;

async function refresh() {
  if (busy) { again = true; return; }
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const part = page.querySelector("[data-live]");
    if (part && part.innerHTML !== live.innerHTML) {
      const scroll = [...live.querySelectorAll(".wide")].map((box) => box.scrollLeft);
      live.replaceChildren(...part.childNodes);
      [...live.querySelectorAll(".wide")].forEach((box, at) => { box.scrollLeft = scroll[at] ?? 0; });
      live.querySelector("table, ul")?.classList.add("fresh");
    }
  } finally {
    busy = false;
    if (again) { again = false; refresh(); }
  }
}

function clocks() {
  for (const one of document.querySelectorAll(".clock span")) {
    const now = Date.now(), start = Number(one.dataset.start), end = Number(one.dataset.end);
    const name = one.textContent.split(":")[0];
    const left = (moment) => {
      const seconds = Math.max(0, Math.round((moment - now) / 1000));
      const pad = (value) => String(value).padStart(2, "0");
      return `${Math.floor(seconds / 3600)}:${pad(Math.floor(seconds / 60) % 60)}:${pad(seconds % 60)}`;
    };
    if (now < start) one.textContent = `${name}: begins in ${left(start)}`;
    else if (now < end) one.textContent = `${name}: ${left(end)} left`;
    else one.textContent = `${name}: over`;
  }
}

if (live) {
  const source = new EventSource(`/api/v1/stream?after=${document.body.dataset.seq}`);
  source.addEventListener("board", refresh);
  setInterval(() => { if (live.querySelector("[data-waiting]")) refresh(); }, 2000);
}
clocks();
setInterval(clocks, 1000);
