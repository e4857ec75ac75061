// Brings the figures up to date when the ledger changes. Without scripts every page works, and is as of its loading.
"use strict";
(() => {
  const PAUSE_MS = 1500; // A page is fetched no more often than that.
  const sign = document.getElementById("watching");
  let wanted = false;
  let busy = false;

  const say = (text, isLive) => {
    if (!sign) return;
    sign.textContent = text;
    sign.classList.toggle("live", isLive);
    sign.hidden = false;
  };

  const put = (fresh) => {
    for (const part of fresh.querySelectorAll("[data-live][id]")) {
      const old = document.getElementById(part.id);
      if (!old) continue;
      for (const opened of old.querySelectorAll("details[open][id]")) {
        const again = part.querySelector("#" + CSS.escape(opened.id));
        if (again) again.open = true;
      }
      const place = old.contains(document.activeElement) ? document.activeElement : null;
      const scrolled = [...old.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
      const number = place ? [...old.querySelectorAll("a, button, summary, [tabindex]")].indexOf(place) : -1;
      const href = place ? place.getAttribute("href") : null;
      old.replaceWith(part);
      part.querySelectorAll(".scroll").forEach((each, index) => { each.scrollLeft = scrolled[index] || 0; });
      if (!place) continue;
      const all = [...part.querySelectorAll("a, button, summary, [tabindex]")];
      const same = (href && all.find((each) => each.getAttribute("href") === href)) || all[number];
      if (same) same.focus({ preventScroll: true });
    }
  };

  const refresh = async () => {
    if (busy || document.hidden) { wanted = true; return; }
    busy = true;
    wanted = false;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.redirected && new URL(answer.url).pathname === "/login") { location.assign("/login"); return; }
      if (answer.ok) put(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* The stream says when the server is back. */ }
    setTimeout(() => { busy = false; if (wanted) refresh(); }, PAUSE_MS);
  };

  document.addEventListener("change", (event) => {
    if (event.target instanceof HTMLSelectElement && event.target.closest("form.filters")) event.target.form.requestSubmit();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && wanted) refresh(); });

  if (!document.body.hasAttribute("data-refresh") || !("EventSource" in window)) return;
  const stream = new EventSource("/live");
  let wasLost = false;
  stream.addEventListener("open", () => { say("live", true); if (wasLost) refresh(); wasLost = false; });
  stream.addEventListener("changed", refresh);
  stream.addEventListener("error", () => { wasLost = true; say("not connected", false); });
  addEventListener("pagehide", () => stream.close());
})();
