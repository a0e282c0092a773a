// The data set room: which data set is open, what it holds, and the parts of the page that show it. Everything is asked of /studio/v1/datasets.
(() => {
  "use strict";
  const { t, el, put, zh, url, ask } = window.studio.parts;
  const PAGE = 60, LOOK = 1200;
  const ORDER = ["picture", "caption", "bulk", "tags", "masks", "template", "check", "write"];

  const room = {
    t, el, put, zh, panels: [], set: "", data: null, filter: "", order: "name", offset: 0, chosen: new Set(), current: "", panel: "picture",
    settled: Promise.resolve(), loaded: Promise.resolve(), loading: 0,

    // ---- asking the server
    url, ask,

    here(path) {
      return `datasets/${encodeURIComponent(room.set)}/${path}`;
    },

    picture(kind, name, version) {
      return room.url(room.here(kind), { picture: name, v: version }).href;
    },

    // An act of the person: its failure is told, and what it changed is shown.
    async act(method, path, body, query) {
      try {
        const data = await room.ask(method, path, body, query);
        await room.load();
        return data;
      } catch (error) {
        room.say("bad", error.message);
        return null;
      }
    },

    say(kind, text) {
      const bar = room.find(".room-say");
      bar.className = `room-say note ${kind}`;
      bar.textContent = text;
      bar.hidden = !text;
      clearTimeout(room.saying);
      if (kind === "good") room.saying = setTimeout(() => { bar.hidden = true; }, 6000);
    },

    find: (selector) => room.root.querySelector(selector),

    // ---- the open data set
    async lists() {
      room.sets = await room.ask("GET", "datasets");
      const select = room.find(".room-set");
      select.replaceChildren(...room.sets.map((s) => el("option", { value: s.id }, `${s.name} · ${s.pictures}`)));
      if (!room.sets.some((s) => s.id === room.set)) room.set = room.sets.length ? room.sets[0].id : "";
      select.value = room.set;
      room.root.classList.toggle("no-set", !room.set);
    },

    async open(name) {
      await room.flush();
      Object.assign(room, { set: name, offset: 0, current: "", data: null });
      room.chosen.clear();
      localStorage.setItem("studio-room-set", name);
      room.loading++; // until the new set is there, what is pressed waits for it
      room.loaded = (async () => { try { await room.lists(); await room.load(); } finally { room.loading--; } })();
      room.draw();
      await room.loaded;
      room.draw();
    },

    // What is pressed while a data set loads waits for it; false when there is none to act on.
    async ready() {
      await room.loaded.catch(() => {});
      return Boolean(room.data);
    },

    async load() {
      if (!room.set) return room.draw();
      const mine = (room.asked = (room.asked || 0) + 1);
      try {
        const data = await room.ask("GET", room.here("room"), undefined, { filter: room.filter, order: room.order, offset: room.offset, limit: PAGE });
        if (mine !== room.asked) return;
        room.data = data;
        room.find(".room-filter").classList.remove("wrong");
        if (!data.items.length && room.offset) { room.offset = 0; return room.load(); }
        if (!data.items.some((item) => item.name === room.current)) room.current = data.items.length ? data.items[0].name : "";
      } catch (error) {
        if (mine !== room.asked) return;
        if (error.status === 422 && room.filter) room.find(".room-filter").classList.add("wrong");
        if (error.status === 404) await room.leave();
        room.say("bad", error.message);
      }
      room.draw();
    },

    // The open data set is not there any more: another one is shown, and nothing of the old one stays on the page, whose captions would be sent to the other.
    async leave() {
      const gone = room.set;
      Object.assign(room, { data: null, current: "", offset: 0 });
      room.chosen.clear();
      await room.lists();
      if (room.set && room.set !== gone) await room.load();
    },

    item: (name) => room.data && room.data.items.find((item) => item.name === (name || room.current)),

    select(name, scroll = false) {
      if (!room.item(name)) return;
      room.current = name;
      for (const card of room.root.querySelectorAll(".room-card")) card.classList.toggle("current", card.dataset.name === name);
      if (scroll) room.root.querySelector(".room-card.current")?.scrollIntoView({ block: "nearest" });
      room.drawPanel();
    },

    step(by) {
      const names = room.data ? room.data.items.map((item) => item.name) : [];
      const at = names.indexOf(room.current) + by;
      if (at >= 0 && at < names.length) room.select(names[at], true);
    },

    // Words that are typed are kept after a moment; whoever needs them kept waits here.
    async flush() {
      for (const panel of room.panels) if (panel.flush) await panel.flush();
      if (room.grid) await room.grid.flush();
    },

    // ---- long work
    async start(kind, values) {
      if (!(await room.ready())) return room.say("bad", t("No data set is open."));
      await room.flush();
      try {
        const { id } = await room.ask("POST", `jobs/${kind}`, { folder: room.data.folder, ...values });
        room.seen.add(id);
        return await room.look();
      } catch (error) {
        return room.say("bad", error.message);
      }
    },

    async stop(job) {
      await room.ask("POST", `jobs/${job}/asks/stop`).catch((error) => room.say("bad", error.message));
    },

    async look() {
      if (!room.set || document.hidden || !room.root || !room.root.offsetParent) return;
      try {
        const now = await room.ask("GET", room.here("pulse"));
        room.jobs(now.jobs);
        room.examineNew(now.jobs);
        const busy = document.activeElement && document.activeElement.closest(".room-card textarea, .room-words");
        if (room.data && now.revision !== room.data.revision && !busy) await room.load();
      } catch (error) { // the bar of the page says when the server is gone
        if (error.status === 404 && room.data && room.data.name) await room.load();
      }
    },

    // Pictures that nobody looked at yet are looked at without being asked: crops and findings need it. Once for each number of them.
    examineNew(jobs) {
      const mark = room.data && `${room.set} ${room.data.unexamined}`;
      if (!room.data || !room.data.unexamined || room.examined === mark || jobs.some((job) => ["import", "examine"].includes(job.kind) && !["done", "stopped", "failed"].includes(job.state))) return;
      room.examined = mark;
      room.start("examine", {});
    },

    jobs(list) {
      const over = (job) => ["done", "stopped", "failed"].includes(job.state);
      for (const job of list) if (!over(job)) room.seen.add(job.id);
      const shown = list.filter((job) => room.seen.has(job.id) && !room.closed.has(job.id)), now = JSON.stringify(shown), host = room.find(".room-jobs");
      if (host.dataset.now !== now) { host.replaceChildren(...shown.map((job) => (over(job) ? room.ended(job) : room.running(job)))); host.dataset.now = now; }
      const kinds = new Set(list.filter((job) => !over(job)).map((job) => job.kind));
      for (const panel of room.panels) if (panel.jobs) panel.jobs(kinds, list);
    },

    running(job) {
      const state = job.state === "queued" ? t("waits for its turn") : job.state === "stopping" ? t("stopping") : job.total ? `${job.step} / ${job.total}` : t("starting");
      const left = job.left > 1 ? t("{seconds} s left", { seconds: Math.round(job.left) }) : "";
      return el("div", { class: `room-job ${job.state}` }, el("b", {}, t(job.kind)), el("span", {}, state), el("span", { class: "small" }, [job.text, job.rate ? t("{rate} per second", { rate: job.rate }) : "", left].filter(Boolean).join(" · ")),
        el("div", { class: "bar" }, el("i", { style: `width:${job.total ? (100 * job.step) / job.total : 0}%` })), el("button", { type: "button", onclick: () => room.stop(job.id) }, t("Stop")));
    },

    ended(job) {
      const result = job.result || {}, count = result.added ?? result.examined ?? result.captioned ?? result.compared ?? result.masks ?? result.written ?? result.pictures;
      const told = job.state === "failed" ? job.error : [job.state === "stopped" ? t("stopped") : t("done"), count ? t("pictures: {count}", { count }) : "", result.destination || ""].filter(Boolean).join(" · ");
      const warnings = job.warnings.length ? el("details", {}, el("summary", {}, t("remarks: {count}", { count: job.warnings.length })), job.warnings.map((text) => el("p", { class: "small" }, text))) : null;
      const close = () => { room.closed.add(job.id); room.look(); };
      return el("div", { class: `room-job over ${job.state}` }, el("b", {}, t(job.kind)), el("span", { class: "told" }, told), warnings, el("button", { type: "button", class: "plain", title: t("Close"), "aria-label": t("Close"), onclick: close }, "×"));
    },
    seen: new Set(),
    closed: new Set(),
    told: new Set(),

    // ---- drawing
    draw() {
      if (!room.root) return;
      const data = room.data;
      room.root.classList.toggle("empty", data ? !data.total : !room.loading);
      const option = data && room.find(`.room-set option[value="${CSS.escape(room.set)}"]`);
      if (option) option.textContent = `${data.name} · ${data.total}`;
      room.find(".room-counts").textContent = !data && room.loading ? t("Loading …") : data ? t("{total} pictures · {captioned} with captions", data) + (data.left_out ? ` · ${t("{left_out} left out", data)}` : "") : "";
      const undo = room.find(".room-undo"), redo = room.find(".room-redo");
      undo.disabled = data ? !data.undo : !room.loading;
      undo.title = data && data.undo ? t("Undo “{name}” (Ctrl+Z)", { name: data.undo }) : t("Nothing to undo");
      redo.disabled = data ? !data.redo : !room.loading;
      redo.title = data && data.redo ? t("Redo “{name}” (Ctrl+Y)", { name: data.redo }) : t("Nothing to redo");
      room.find(".room-undo span").textContent = data && data.undo ? data.undo : "";
      for (const text of data ? data.notes : []) if (!room.told.has(text)) { room.told.add(text); room.say("warn", text); }
      room.grid.draw();
      room.drawPanel();
    },

    drawPanel() {
      for (const button of room.root.querySelectorAll(".room-tabs button")) button.setAttribute("aria-selected", String(button.dataset.panel === room.panel));
      for (const panel of room.panels) {
        panel.host.hidden = panel.id !== room.panel;
        if (!panel.host.hidden && room.data) Promise.resolve(panel.draw()).catch((error) => room.say("bad", error.message));
      }
    },

    // A step whose captions somebody else has changed since is only taken back when the person says so.
    async undo(kind, force = false) {
      if (!(await room.ready())) return room.say("bad", t("No data set is open."));
      await room.flush();
      if (!force && !room.data[kind]) return room.say("", kind === "undo" ? t("Nothing to undo") : t("Nothing to redo"));
      try {
        const step = await room.ask("POST", room.here(kind), {}, force ? { force: true } : {});
        await room.load();
        if (step.name) room.say("good", kind === "undo" ? t("Taken back: {name}.", { name: step.name }) : t("Done again: {name}.", { name: step.name }));
        return undefined;
      } catch (error) {
        if (error.status !== 409) return room.say("bad", error.message);
        const box = room.openers.dialog(t("Something was changed outside the studio"), el("p", {}, error.message), el("div", { class: "buttons" },
          el("button", { type: "button", class: "primary", onclick: () => box.close() }, t("Leave it as it is")), el("button", { type: "button", onclick: () => { box.close(); room.undo(kind, true); } }, t("Go on and overwrite"))));
        return undefined;
      }
    },
  };

  function build(root) {
    room.root = root;
    const button = (label, act, more = {}) => el("button", { type: "button", onclick: act, ...more }, label);
    root.replaceChildren(
      el("div", { class: "room-top" },
        el("label", { class: "room-pick" }, el("span", {}, t("Data set")), el("select", { class: "room-set", "aria-label": t("Data set"), onchange: (e) => room.open(e.target.value) })),
        button(t("New…"), room.openers.create, { class: "room-new" }), button(t("Open a folder…"), room.openers.folder), button(t("Import…"), room.openers.bring, { class: "room-import needs-set" }),
        button(t("Add pictures"), () => room.find(".room-files").click(), { class: "room-add" }),
        el("input", { type: "file", multiple: true, hidden: true, class: "room-files", onchange: (e) => { room.openers.take([...e.target.files]); e.target.value = ""; } }),
        el("span", { class: "room-counts small" }),
        el("span", { class: "room-saved small", "aria-live": "polite" }),
        el("button", { type: "button", class: "room-undo", onclick: () => room.undo("undo") }, "↶ ", el("span", {})),
        el("button", { type: "button", class: "room-redo", onclick: () => room.undo("redo"), "aria-label": t("Redo") }, "↷"),
        button(t("History"), room.openers.history, { class: "needs-set" })),
      el("div", { class: "room-say note", role: "status", hidden: true }),
      el("div", { class: "room-jobs" }),
      el("div", { class: "room-empty" },
        el("p", {}, el("b", {}, t("Drop pictures here"))), el("p", {}, t("Pictures, captions, masks, a .zip or a whole folder. The originals are copied and never changed.")),
        el("p", { class: "small" }, t("Then look at the crops, write captions, let the Check tab find what is wrong, and press Write."))),
      el("div", { class: "room-body" },
        el("div", { class: "room-main" }),
        el("div", { class: "room-side" }, el("div", { class: "room-tabs", role: "tablist" }), el("div", { class: "room-panels" }))),
      el("dialog", { class: "room-dialog" }));
    room.grid.build(room.find(".room-main"));
    room.panels.sort((a, b) => ORDER.indexOf(a.id) - ORDER.indexOf(b.id));
    for (const panel of room.panels) {
      room.find(".room-tabs").append(el("button", { type: "button", role: "tab", dataset: { panel: panel.id }, onclick: () => { room.panel = panel.id; room.drawPanel(); } }, t(panel.title)));
      panel.host = el("div", { class: `room-panel room-panel-${panel.id}`, role: "tabpanel" });
      room.find(".room-panels").append(panel.host);
      panel.build(panel.host);
    }
    room.set = localStorage.getItem("studio-room-set") || "";
    room.loading++;
    room.loaded = room.lists().then(room.load).finally(() => { room.loading--; });
    room.draw();
    room.loaded.then(() => { room.draw(); return room.look(); }).catch((error) => { room.draw(); room.say("bad", error.message); });
  }

  function mount() {
    const root = document.querySelector("#room:not([data-ready])");
    if (!root || !room.grid || !room.panels.length) return;
    root.dataset.ready = "1";
    build(root);
  }
  new MutationObserver(mount).observe(document.documentElement, { childList: true, subtree: true });
  setInterval(() => room.look(), LOOK);

  const writing = (element) => element.closest && element.closest("textarea, input[type=text], input[type=number], input[type=search], select, [contenteditable=true]");
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229 || !room.root || !room.root.offsetParent || room.root.querySelector("dialog[open]")) return;
    const letter = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && (event.key === "ArrowDown" || event.key === "ArrowUp")) { event.preventDefault(); room.step(event.key === "ArrowDown" ? 1 : -1); return; }
    if (writing(event.target)) return;
    if ((event.ctrlKey || event.metaKey) && letter === "z" && !event.target.closest(".mask-canvas")) { event.preventDefault(); room.undo(event.shiftKey ? "redo" : "undo"); }
    else if ((event.ctrlKey || event.metaKey) && letter === "y" && !event.target.closest(".mask-canvas")) { event.preventDefault(); room.undo("redo"); }
  });

  window.studio = Object.assign(window.studio || {}, { room, openRoom: (name) => { localStorage.setItem("studio-room-set", name); if (room.root) room.open(name); return []; } });
})();
