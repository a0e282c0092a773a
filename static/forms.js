// A browser's id, and what was typed in it: the values of all fields and the open tabs, kept in localStorage and put back when the page opens.
(() => {
  "use strict";
  const ID = "studio_browser", FIELD = "studio-form:", YEAR = 31536000, WAIT = 400;
  const store = {
    read(key) { try { return localStorage.getItem(key) || ""; } catch { return ""; } },
    write(key, text) { try { localStorage.setItem(key, text); } catch { /* no room, or not allowed: the page works without */ } },
  };

  // The cookie comes first: two studios of one machine share it, whatever their ports. getRandomValues is there without https, randomUUID is not.
  function identify() {
    const valid = (id) => (/^[A-Za-z0-9_-]{16,64}$/.test(id || "") ? id : "");
    const cookie = document.cookie.split("; ").find((each) => each.startsWith(`${ID}=`));
    const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const id = valid(cookie && cookie.slice(ID.length + 1)) || valid(store.read(ID)) || random();
    store.write(ID, id);
    document.cookie = `${ID}=${id}; path=/; max-age=${YEAR}; samesite=strict`;
  }

  // One entry for each field: two pages that read and write one entry for all would lose what the other wrote meanwhile.
  function keep(values) {
    for (const [name, value] of Object.entries(values)) store.write(FIELD + name, JSON.stringify(value));
  }

  function stored() {
    const kept = {};
    let keys = [];
    try { keys = Object.keys(localStorage).filter((key) => key.startsWith(FIELD)); } catch { /* storage is not allowed: nothing is restored */ }
    for (const key of keys) {
      try { kept[key.slice(FIELD.length)] = JSON.parse(store.read(key)); } catch { /* an unreadable entry is skipped; the others are restored */ }
    }
    return kept;
  }

  // The open tab of each group, by the ids that the page's tabs have: "tab_" and the name.
  function tabs() {
    const open = {};
    for (const panel of document.querySelectorAll("[role=tabpanel][id^=tab_]")) {
      const group = panel.parentElement.closest(".tabs[id]");
      if (group && panel.style.display !== "none") open[group.id] = panel.id.slice(4);
    }
    return open;
  }

  // Only what was touched in this page is written, so that two pages of a browser do not undo each other's values.
  const pending = new Set();
  let groupOf = null, timer = 0;

  function press() {
    clearTimeout(timer);
    if (!groupOf) return;
    const before = stored(), open = Object.entries(tabs()).filter(([group, tab]) => before[group] !== tab);
    if (open.length) keep(Object.fromEntries(open));
    for (const group of new Set([...pending].map((name) => groupOf[name]))) document.querySelector(`#keep_${group}`)?.click();
  }

  // What gradio holds for the fields of one group.
  function save(names, values) {
    const touched = names.map((name, i) => [name, values[i] ?? null]).filter(([name]) => pending.delete(name));
    if (touched.length) keep(Object.fromEntries(touched));
    return [];
  }

  function touch(names) {
    for (const name of names) pending.add(name);
    clearTimeout(timer);
    timer = setTimeout(press, WAIT);
    return [];
  }

  // The page is as it was kept, with something else in the place of what is not valid any more. From here on it is saved, also what was typed before.
  function start(groups, replaced) {
    groupOf = Object.fromEntries(groups.flatMap((names, number) => names.map((name) => [name, number])));
    const instead = JSON.parse(replaced || "{}");
    if (Object.keys(instead).length) keep(instead);
    for (const name of pending) if (!(name in groupOf)) pending.delete(name);
    return touch([]);
  }

  // A text that is only clicked is not touched. A dropdown takes its value when an entry of its list, which lies elsewhere in the page, is pressed, or when it is left.
  const written = (target) => target.matches?.("textarea, input:not([type=checkbox], [type=radio], [type=range])");
  function note(target) {
    const names = [];
    for (let node = target; node && node !== document; node = node.parentNode) if (node.id && (!groupOf || node.id in groupOf)) names.push(node.id);
    if (names.length || target.closest?.("[role=tab]")) touch(names);
  }
  let typing = null;
  for (const kind of ["input", "change", "drop"]) document.addEventListener(kind, (event) => { typing = event.target; note(typing); }, true);
  document.addEventListener("click", (event) => { if (!written(event.target)) note(event.target); }, true);
  document.addEventListener("mousedown", (event) => { if (event.target.closest?.("[role=option]")) note(document.activeElement); }, true);
  document.addEventListener("focusout", (event) => { if (event.target === typing || event.target.matches?.("[role=combobox], [role=listbox]")) note(event.target); }, true);
  // A page that is left may not live to see the event that saves: what was typed is read from the fields themselves.
  function leave() {
    const typed = {};
    for (const name of groupOf ? pending : []) {
      const place = document.getElementById(name), input = place?.querySelector("textarea, input[type=number], input[type=text]:not([role])");
      if (!input || (input.type === "number" && !input.value && place.querySelector("[type=range]"))) continue; // a slider's box that is empty has no value yet
      typed[name] = input.type !== "number" ? input.value : input.value ? Number(input.value) : null;
    }
    keep(typed);
    press();
  }
  addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); });

  // What was painted over a picture when the page was left: the path of a file of the server.
  const left = stored();
  const strokes = (name, path) => (path && left[`${name}_picture`] === path && left[`${name}_mask`]) || "";

  identify();
  window.studio = Object.assign(window.studio || {}, { forms: { kept: () => [JSON.stringify(stored())], save, start, touch, strokes, keep, stored, ready: () => groupOf !== null } });
})();
