// Keeps the parts of a page that carry `data-part` as they are on the server, and gives labelling its keys.
// Every page works without this file: it only spares reloading.
"use strict";
(() => {
  const live = document.body.dataset.live;
  const sign = document.getElementById("live");
  const LEAST_MS = 1500; // between two looks, however fast things change
  let looked = 0, waiting = null, busy = false;

  const show = (on) => {
    if (!sign) return;
    const says = on ? sign.dataset.on : sign.dataset.off;
    if (sign.textContent !== says) sign.textContent = says;
    sign.classList.toggle("off", !on);
  };

  const isBeingUsed = (part) => {
    const focused = document.activeElement;
    if (focused && part.contains(focused) && focused.matches("input, select, textarea, button")) return true;
    return [...part.querySelectorAll("input:not([type=hidden]), textarea")].some((field) => field.value !== field.defaultValue);
  };

  const refresh = async () => {
    waiting = null;
    if (busy) return soon();
    const parts = document.querySelectorAll("[data-part]");
    if (!parts.length) return;
    busy = true;
    looked = Date.now();
    try {
      const address = new URL(location.href);
      for (const once of ["told", "explain"]) address.searchParams.delete(once); // no part shows them
      const answer = await fetch(address, { headers: { Accept: "text/html" }, redirect: "error" });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of parts) {
        const next = fresh.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
        if (!next || isBeingUsed(part) || next.innerHTML === part.innerHTML) continue;
        const open = [...part.querySelectorAll("details")].map((each) => each.open);
        const place = document.activeElement && part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
        part.replaceChildren(...next.childNodes);
        part.querySelectorAll("details").forEach((each, index) => { if (open[index]) each.open = true; });
        if (place) part.querySelector(`a[href="${CSS.escape(place)}"]`)?.focus({ preventScroll: true });
      }
    } catch { /* the stream tells when the server is back */ } finally { busy = false; }
  };

  const soon = () => {
    if (waiting === null) waiting = setTimeout(refresh, Math.max(0, looked + LEAST_MS - Date.now()));
  };

  if (live && window.EventSource) {
    let source = null, again = null;
    const leave = () => { clearTimeout(again); source?.close(); source = null; };
    const listen = () => {
      leave();
      const own = source = new EventSource(live);
      own.addEventListener("hello", () => show(true));
      own.addEventListener("changed", () => { show(true); soon(); });
      own.addEventListener("error", () => {
        show(false);
        if (own === source && own.readyState === EventSource.CLOSED) again = setTimeout(listen, 5000); // refused: signed out, or too many
      });
    };
    // A browser has six connections to a server: pages in the background must not hold them all.
    const look = () => { if (document.hidden) { leave(); return; } if (!source) { listen(); soon(); } };
    if (!document.hidden) listen();
    document.addEventListener("visibilitychange", look);
    setInterval(() => { if (!document.hidden) soon(); }, 15000); // times that pass, traffic that comes
  }

  // Labelling: a key for each choice, only while nobody types.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return; // a key that is held acts once
    const typing = event.target.closest("input:not([type=hidden]), select, textarea");
    if (typing) {
      if (event.key === "Escape") typing.blur();
      return;
    }
    const choice = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
    if (!choice) return;
    event.preventDefault();
    if (choice.matches("input")) choice.focus(); else choice.click();
  });

  // Narrows a long list of classes while one types; Enter takes the first that is left. The field stands outside of
  // the form: in it Enter would press the first button where none is left, and give the label that was answered.
  const narrow = document.querySelector("[data-narrows]");
  if (narrow) {
    const buttons = [...document.querySelectorAll(narrow.dataset.narrows)];
    const matching = () => buttons.filter((button) => button.value.toLowerCase().includes(narrow.value.trim().toLowerCase())); // by the label, not by its key
    narrow.addEventListener("input", () => {
      const left = new Set(matching());
      for (const button of buttons) button.hidden = !left.has(button);
    });
    narrow.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      const exact = buttons.find((button) => button.value === narrow.value.trim());
      const first = exact || matching()[0];
      if (first && narrow.value.trim()) { event.preventDefault(); first.click(); }
    });
  }

  // What was typed outlives a form that was refused, because somebody was first or the session was over: this tab keeps
  // it until the page that the form stands on is there again. Secrets are not kept.
  const KEPT = "perennial-typed";
  const fields = (form) => [...form.elements].filter((field) => field.name && field.matches("input:not([type=hidden]), textarea"));
  const keep = (form) => {
    if (form.querySelector("input[type=password]")) return;
    const typed = Object.fromEntries(fields(form).filter((field) => field.value).map((field) => [field.name, field.value]));
    try { sessionStorage.setItem(KEPT, JSON.stringify({ action: form.getAttribute("action"), typed, refused: false })); } catch { /* full, or forbidden */ }
  };
  const giveBack = () => {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) || "null");
    const refused = document.querySelector("[data-refused]");
    if (!kept || (!refused && document.querySelector("input[type=password]"))) return; // the way back leads through signing in
    if (refused) {
      sessionStorage.setItem(KEPT, JSON.stringify({ ...kept, refused: true }));
      return;
    }
    sessionStorage.removeItem(KEPT);
    const form = kept.refused && [...document.forms].find((each) => each.getAttribute("action") === kept.action);
    if (!form) return;
    for (const field of fields(form)) if (!field.value && kept.typed[field.name]) field.value = kept.typed[field.name];
  };
  try { giveBack(); } catch { /* a browser that keeps nothing */ }

  // What was sent is not sent again by a second click while the server works on it.
  const sent = new WeakSet();
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    if (sent.has(event.target)) event.preventDefault();
    sent.add(event.target);
    keep(event.target);
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) for (const form of document.forms) sent.delete(form);
  });
})();
