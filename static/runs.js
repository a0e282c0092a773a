// The Runs tab: a table of all runs, what can be done with the chosen one, several beside each other, and the queue. Everything is asked of /studio/v1/runs and /studio/v1/queue.
(() => {
  "use strict";
  const { el, put, t, ask, url, duration, sentence, dialog } = window.studio.parts;
  const LOOK = 1500, MOST = 6;
  const LIVE = ["queued", "running", "paused", "stopping"];
  const STATES = ["queued", "running", "paused", "stopping", "done", "stopped", "failed", "interrupted"], DIAGNOSES = ["improving", "plateau", "overfitting", "diverging", "not_learning", "too_early"];

  const room = {
    root: null, rows: [], chosen: [], trash: [], pulse: "", next: 0, shown: "", words: "", state: "", verdict: "", method: "", marks: {},
    find: (selector) => room.root.querySelector(selector),
    row: (id) => room.rows.find((row) => row.id === id),
    here: (id, path) => `runs/${encodeURIComponent(id)}/${path}`,
    picture: (id, path, size, v) => url(room.here(id, "picture"), { path, size, v }).href,

    // A sentence in the bar, with a button beside it where something can be taken back.
    say(kind, text, label, back) {
      const bar = room.find(".runs-say");
      bar.className = `runs-say note ${kind}`;
      put(bar, text, back ? [" ", el("button", { type: "button", class: "link", onclick: back }, label)] : null);
      bar.hidden = !text;
      clearTimeout(room.saying);
      if (kind === "good") room.saying = setTimeout(() => { bar.hidden = true; }, back ? 30000 : 8000);
    },

    async act(method, path, body) {
      try {
        const data = await ask(method, path, body);
        await room.load();
        return data ?? {};
      } catch (error) {
        room.say("bad", error.message);
        return null;
      }
    },

    async load() {
      const begun = Date.now();
      const [rows, queue, trash] = await Promise.all([ask("GET", "runs"), ask("GET", "queue"), ask("GET", "runs/trash")]);
      room.next = Date.now() + 5 * (Date.now() - begun);
      room.rows = rows;
      room.trash = trash;
      room.chosen = room.chosen.filter((id) => room.row(id));
      room.draw();
      window.studio.runsQueue.draw(room.find(".runs-queue"), queue, room);
    },

    // Asked often, answered cheaply: all is read again only when something happened, and seldom where that takes long.
    async look() {
      if (!room.root || !room.root.offsetParent || document.hidden || room.looking) return;
      room.looking = true;
      try {
        const { pulse } = await ask("GET", "pulse");
        if (pulse !== room.pulse && Date.now() >= room.next) { room.pulse = pulse; await room.load(); }
      } catch { /* the bar of the page says when the server is gone */ } finally { room.looking = false; }
    },

    place(selector, facts, draw) {
      const mark = JSON.stringify([facts]);
      if (room.marks[selector] === mark) return;
      room.marks[selector] = mark;
      const host = room.find(selector), inside = host.contains(document.activeElement) ? document.activeElement.dataset.focus || document.activeElement.closest("[data-focus]")?.dataset.focus : "";
      put(host, draw());
      if (inside) host.querySelector(`[data-focus="${CSS.escape(inside)}"]`)?.focus();
    },

    draw() {
      const methods = Object.fromEntries(room.rows.map((row) => [row.method, row.method_title]));
      if (!methods[room.method]) room.method = "";
      const rows = filtered();
      room.place(".runs-table", [rows, room.chosen, room.rows.length], () => table(rows));
      room.place(".runs-by-method", methods, () => [el("option", { value: "" }, t("Any method")), Object.entries(methods).map(([name, title]) => el("option", { value: name, selected: name === room.method }, t(title)))]);
      room.place(".runs-acts", [room.chosen, room.chosen.map((id) => [room.row(id).state, room.row(id).step])], () => acts());
      const trash = room.find(".runs-trash");
      trash.disabled = !room.trash.length;
      trash.title = room.trash.length ? "" : t("The trash is empty.");
      trash.textContent = t("Trash ({count})", { count: room.trash.length });
      const now = room.chosen.join("\n");
      if (now === room.shown) return;
      room.shown = now;
      open();
    },

    choose(id, more) {
      if (!more) room.chosen = room.chosen.length === 1 && room.chosen[0] === id ? [] : [id];
      else if (room.chosen.includes(id)) room.chosen = room.chosen.filter((each) => each !== id);
      else if (room.chosen.length >= MOST) return room.say("warn", t("At most {count} runs can be compared.", { count: MOST }));
      else room.chosen = [...room.chosen, id];
      room.draw();
    },
  };

  function filtered() {
    const words = room.words.toLowerCase().split(/\s+/).filter(Boolean);
    return room.rows.filter((row) => (!room.state || row.state === room.state) && (!room.verdict || (row.verdict && row.verdict.state === room.verdict)) && (!room.method || row.method === room.method) && words.every((word) => `${row.id} ${row.name} ${row.note} ${row.checkpoint} ${row.method_title} ${Object.values(row.settings).join(" ")}`.toLowerCase().includes(word)));
  }

  const titled = (name) => t(name[0].toUpperCase() + name.slice(1).replaceAll("_", " "));

  function table(rows) {
    if (!room.rows.length) return el("p", { class: "runs-none" }, t("No run yet. Start one in Train, or import a recipe card."));
    if (!rows.length) return el("p", { class: "runs-none" }, t("No run is like that."));
    const heads = ["", "", t("Run"), t("Method"), t("State"), t("Diagnosis"), t("Steps"), t("Time"), t("Learning rate"), t("Begun")];
    return el("table", { class: "plain" }, el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, rows.map(line)));
  }

  function line(row) {
    const on = room.chosen.includes(row.id);
    const box = el("input", { type: "checkbox", checked: on, dataset: { focus: `box ${row.id}` }, "aria-label": t("Choose {name} to compare", { name: row.name }), onclick: (event) => { event.stopPropagation(); room.choose(row.id, true); } });
    const picture = row.thumbnail ? el("img", { src: room.picture(row.id, row.thumbnail.path, 256, row.thumbnail.step), alt: t("Step {step}", { step: row.thumbnail.step }), loading: "lazy" }) : el("span", { class: "blank" });
    const keys = (event) => {
      if (event.target !== event.currentTarget) return;
      if (event.key === "Enter") { event.preventDefault(); room.choose(row.id, event.ctrlKey || event.metaKey || event.shiftKey); }
      else if (event.key === " ") { event.preventDefault(); room.choose(row.id, true); }
      else if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); (event.key === "ArrowDown" ? event.currentTarget.nextElementSibling : event.currentTarget.previousElementSibling)?.focus(); }
    };
    return el("tr", { tabindex: 0, class: on ? "chosen" : "", "aria-selected": String(on), dataset: { run: row.id, focus: row.id }, onclick: (event) => room.choose(row.id, event.ctrlKey || event.metaKey || event.shiftKey), onkeydown: keys },
      el("td", {}, box), el("td", { class: "thumb" }, picture),
      el("td", {}, el("b", {}, row.name), el("div", { class: "small" }, row.title ? `${row.embedding} · ${row.id}` : row.id), row.note ? el("div", { class: "small note-line", title: row.note }, row.note.split("\n")[0].slice(0, 90)) : null),
      el("td", {}, t(row.method_title)),
      el("td", {}, el("span", { class: `state ${row.state}`, title: row.error || "" }, titled(row.state))),
      el("td", { class: "verdict-cell" }, row.verdict ? sentence(row.verdict) : el("span", { class: "small" }, t("not measured")), row.best ? el("div", { class: "small" }, t("best: step {step}", { step: row.best.step })) : null),
      el("td", { class: "num" }, row.end ? `${row.step} / ${row.end}` : String(row.step)), el("td", { class: "num" }, duration(row.seconds)), el("td", { class: "num" }, row.settings.learn_rate || ""),
      el("td", { class: "num" }, row.started ? new Date(1000 * row.started).toLocaleString([], { dateStyle: "short", timeStyle: "short" }) : ""));
  }

  // What can be done with what is chosen; a button that cannot be pressed says why.
  function acts() {
    const id = room.chosen[0], row = room.chosen.length === 1 ? room.row(id) : null;
    const none = room.chosen.length > 1 ? t("Choose one run only.") : t("Choose a run first.");
    const living = row && LIVE.includes(row.state), some = row && row.thumbnail, kept = row && row.step > 0;
    const copies = (row && row.whole) ? t("Each copy would be a whole checkpoint, so it keeps none.") : kept ? "" : t("It has kept no weights yet.");
    const waits = living ? t("It is still running.") : "";
    const make = (name, label, why, act) => el("button", { type: "button", class: `runs-${name}`, disabled: Boolean(why), title: why, dataset: { focus: name }, onclick: act }, label);
    const d = window.studio.runsActs, no = (why) => (row ? why : none);
    return el("div", { class: "buttons" },
      make("clone", t("Clone into Train"), no(window.studio.cloneRun ? "" : t("The Train tab is not ready yet.")), () => d.clone(row)),
      make("resume", t("Resume"), no(waits || (row && row.end && row.step >= row.end ? t("It has reached its end; extend it.") : "")), () => d.resume(row)),
      make("extend", t("Extend…"), no(waits), () => d.extend(row)),
      make("rename", t("Rename…"), no(""), () => d.rename(row)),
      make("zip", t("Recipe card (zip)"), no(""), () => d.card(row, "zip")),
      make("png", t("Recipe card (PNG)"), no(some ? "" : t("It has no preview.")), () => d.card(row, "png")),
      make("grid", t("Grid…"), no(copies), () => d.grid(row)),
      make("sheet", t("Contact sheet"), no(some ? "" : t("It has no preview.")), () => d.sheet(row, "PNG")),
      make("gif", t("Animation (GIF)"), no(some ? "" : t("It has no preview.")), () => d.sheet(row, "GIF")),
      make("average", t("Average the last…"), no(copies || (row && row.averages ? "" : t("What it learns has no average."))), () => d.average(row)),
      make("delete", t("Delete"), no(waits), () => d.trash(row)),
      room.chosen.length > 1 ? el("span", { class: "small" }, t("{count} runs are compared below.", { count: room.chosen.length })) : null);
  }

  // One run: its screen. Several: their comparison.
  function open() {
    const host = el("div", { class: "runs-one" });
    put(room.find(".runs-place"), host);
    if (room.chosen.length > 1) return window.studio.runsCompare.open(host, room.chosen, room);
    if (!room.chosen.length) return put(host, el("p", { class: "runs-none" }, t("Choose a run to see its curve and previews; choose two to {count} to compare them.", { count: MOST })));
    const made = el("div", { class: "runs-made" }), screen = el("div", {});
    put(host, screen, made);
    window.studio.runScreen?.(screen, room.chosen[0], { live: false });
    window.studio.runsActs.made(made, room.chosen[0]);
  }

  function build(root) {
    room.root = root;
    const button = (name, label, act) => el("button", { type: "button", class: `runs-${name}`, onclick: act }, label);
    const pick = (name, label, values) => el("select", { class: `runs-by-${name}`, "aria-label": label, onchange: (event) => { room[name] = event.target.value; room.draw(); } }, el("option", { value: "" }, label), values.map((value) => el("option", { value }, titled(value))));
    const file = el("input", { type: "file", accept: ".zip,.png", hidden: true, class: "runs-file", onchange: (event) => { if (event.target.files[0]) window.studio.runsActs.bring(event.target.files[0]); event.target.value = ""; } });
    put(root,
      el("div", { class: "runs-bar" },
        el("input", { type: "search", class: "runs-words", placeholder: t("Find by name, note or setting"), "aria-label": t("Find by name, note or setting"), oninput: (event) => { room.words = event.target.value; room.draw(); } }),
        pick("state", t("Any state"), STATES), pick("verdict", t("Any diagnosis"), DIAGNOSES), pick("method", t("Any method"), []),
        button("import", t("Import a card…"), () => file.click()), file, button("trash", t("Trash ({count})", { count: 0 }), () => window.studio.runsActs.trashed())),
      el("div", { class: "runs-say note", role: "status", hidden: true }),
      el("div", { class: "runs-table", id: "runs_table" }), el("div", { class: "runs-acts" }), el("div", { class: "runs-place" }), el("div", { class: "runs-queue" }));
    room.load().catch((error) => room.say("bad", error.message));
  }

  function mount() {
    const root = document.querySelector("#runs_room:not([data-ready])");
    if (!root || !window.studio.runsActs || !window.studio.runsCompare || !window.studio.runsQueue) return;
    root.dataset.ready = "1";
    build(root);
  }
  new MutationObserver(mount).observe(document.documentElement, { childList: true, subtree: true });
  setInterval(() => room.look(), LOOK);
  window.studio = Object.assign(window.studio || {}, { runsRoom: room, runTitled: titled });
})();
