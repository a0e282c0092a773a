// The grid of the data set room: thumbnails with the crop drawn over them, captions that are kept as they are typed, and the filter.
(() => {
  "use strict";
  const room = window.studio.room, { el, t } = room;
  const WAIT = 700, RETRY = 8000; // ms after the last key; ms after a save that failed
  const CHIPS = [["", "All"], ["is:uncaptioned", "Without caption"], ["tokens:>75", "Over 75 tokens"], ["is:leftout", "Left out"], ["is:problem", "Damaged"]];
  // Captions that the server may not have yet, by data set and image. An entry holds what was typed last and stays until exactly that text is saved.
  const unsaved = new Map(); // key -> { set, name, text, seen, timer, node, sending, asking }
  const keyOf = (name, set = room.set) => `${set}/${name}`;

  function overlay(item) {
    if (!item.box) return null;
    const [left, top, right, bottom] = item.box.map((share) => `${(100 * share).toFixed(2)}%`);
    return el("i", { class: `crop-box${item.crop ? " own" : ""}`, style: `left:${left};top:${top};width:calc(${right} - ${left});height:calc(${bottom} - ${top})` });
  }

  function badges(item) {
    const list = [];
    if (item.problem) list.push(["bad", "!", item.problem]);
    if (item.left_out) list.push(["warn", t("left out"), ""]);
    if (item.held_out) list.push(["", t("held out"), ""]);
    if (item.faces) list.push(["", `☺${item.faces > 1 ? item.faces : ""}`, t("faces: {count}", { count: item.faces })]);
    if (item.mask) list.push(["", t("mask"), ""]);
    if (item.flipped) list.push(["", "⇋", t("A mirrored copy is written too")]);
    if (item.repeats > 1) list.push(["", `×${item.repeats}`, t("repeats")]);
    if (item.shared) list.push(["warn", t("shared"), t("Another picture has the same caption file.")]);
    return list.map(([kind, text, title]) => el("span", { class: `badge ${kind}`, title }, text));
  }

  function card(item) {
    const area = el("textarea", {
      rows: 3, spellcheck: "false", "aria-label": t("Caption of {name}", { name: item.name }), placeholder: t("no caption"),
      oninput: (event) => grid.typed(item, event.target), onfocus: () => room.current !== item.name && room.select(item.name), onblur: () => grid.keep(item.name),
    });
    area.value = unsaved.get(keyOf(item.name))?.text ?? item.caption;
    return el("div", { class: `room-card${item.left_out ? " out" : ""}${item.name === room.current ? " current" : ""}`, dataset: { name: item.name } },
      el("div", { class: "thumb", tabindex: "0", role: "button", "aria-label": t("Look at {name}", { name: item.name }), onclick: (event) => pick(event, item.name), onkeydown: (event) => { if (event.key === "Enter" && event.target === event.currentTarget) pick(event, item.name); } },
        el("span", { class: "frame", style: item.width ? `aspect-ratio:${item.width}/${item.height};${item.width >= item.height ? "width:100%" : "height:100%"}` : "" },
          item.problem ? el("span", { class: "broken" }, item.problem) : el("img", { src: room.picture("thumb", item.name, item.version), alt: item.name, loading: "lazy", decoding: "async", draggable: "false" }), overlay(item)),
        el("input", { type: "checkbox", checked: room.chosen.has(item.name), "aria-label": t("Choose {name}", { name: item.name }), onclick: (event) => { event.stopPropagation(); mark(item.name, event.target.checked, event.shiftKey); } }),
        el("span", { class: "badges" }, badges(item))),
      area,
      el("div", { class: "foot" }, el("span", { class: "name", title: item.name }, item.name), el("span", { class: `tokens${item.over ? " over" : ""}`, title: t("tokens of the caption; a prompt holds 75") }, `${item.tokens} / 75`)));
  }

  let last = "";
  function mark(name, on, range) {
    const names = room.data.items.map((item) => item.name);
    const [from, to] = [names.indexOf(last), names.indexOf(name)].sort((a, b) => a - b);
    for (const each of range && from >= 0 ? names.slice(from, to + 1) : [name]) on ? room.chosen.add(each) : room.chosen.delete(each);
    last = name;
    grid.draw(true);
  }

  function pick(event, name) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return mark(name, !room.chosen.has(name), event.shiftKey);
    last = name;
    room.panel = "picture";
    room.select(name);
  }

  const grid = (room.grid = {
    build(host) {
      const search = el("input", {
        type: "search", class: "room-filter", placeholder: t("Filter: words, tag:red, name:IMG*, tokens:>75, NOT tag:hat …"), "aria-label": t("Filter"),
        oninput: (event) => { clearTimeout(grid.timer); grid.timer = setTimeout(() => grid.filter(event.target.value), event.isComposing ? 1200 : 300); },
      });
      host.append(
        el("div", { class: "room-bar" }, search,
          el("select", { class: "room-order", "aria-label": t("Order"), onchange: (event) => { room.order = event.target.value; room.load(); } },
            ...[["name", "by name"], ["newest", "newest first"], ["tokens", "most tokens first"], ["size", "smallest first"], ["sharpness", "blurred first"]].map(([value, label]) => el("option", { value }, t(label)))),
          el("label", { class: "check" }, el("input", { type: "checkbox", class: "room-all", onchange: (event) => grid.all(event.target.checked) }), t("choose all")),
          el("span", { class: "room-found small" })),
        el("div", { class: "room-chips" }, ...CHIPS.map(([filter, label]) => el("button", { type: "button", dataset: { filter }, onclick: () => grid.filter(filter) }, t(label)))),
        el("div", { class: "room-grid" }),
        el("div", { class: "room-pager" }));
    },

    filter(text) {
      room.filter = text.trim();
      room.offset = 0;
      const search = room.find(".room-filter");
      if (search.value.trim() !== room.filter) search.value = room.filter;
      return room.load();
    },

    async all(on) {
      const found = on ? await room.act("GET", room.here("names"), undefined, { filter: room.filter }) : null;
      if (!on) room.chosen.clear();
      for (const name of found ? found.names : []) room.chosen.add(name);
      grid.draw(true);
    },

    draw() {
      const data = room.data, host = room.find(".room-grid");
      if (!data) return host.replaceChildren();
      const focus = document.activeElement && host.contains(document.activeElement) ? document.activeElement.closest(".room-card").dataset.name : "";
      const old = new Map([...host.children].map((node) => [node.dataset.name, node]));
      const cards = data.items.map((item) => {
        const kept = old.get(item.name), stamp = JSON.stringify([item, room.chosen.has(item.name), room.current === item.name]);
        if (kept && (kept.dataset.stamp === stamp || item.name === focus)) return kept;
        const made = card(item);
        made.dataset.stamp = stamp;
        return made;
      });
      if (cards.length !== host.children.length || cards.some((node, i) => host.children[i] !== node)) host.replaceChildren(...cards);
      for (const button of room.root.querySelectorAll(".room-chips button")) button.setAttribute("aria-pressed", String(button.dataset.filter === room.filter));
      room.find(".room-found").textContent = [data.matched === data.total ? "" : t("{matched} of {total}", data), room.chosen.size ? t("{count} chosen", { count: room.chosen.size }) : ""].filter(Boolean).join(" · ");
      room.find(".room-all").checked = room.chosen.size > 0;
      const pages = Math.ceil(data.matched / data.limit), at = Math.floor(data.offset / data.limit);
      const go = (page) => { room.offset = page * data.limit; room.load().then(() => room.find(".room-grid").scrollIntoView({ block: "nearest" })); };
      room.find(".room-pager").replaceChildren(...(pages > 1 ? [
        el("button", { type: "button", disabled: at === 0, onclick: () => go(at - 1) }, "‹"), el("span", {}, t("page {at} of {pages}", { at: at + 1, pages })),
        el("button", { type: "button", disabled: at >= pages - 1, onclick: () => go(at + 1) }, "›")] : []));
    },

    // ---- captions are kept a moment after the last key, and at once when the field is left
    typed(item, area) {
      const key = keyOf(item.name), now = room.item(item.name) || item;
      const entry = unsaved.get(key) || { set: room.set, name: item.name, seen: now.captioned ? now.caption : null };
      Object.assign(entry, { text: area.value, node: area, asking: false });
      unsaved.set(key, entry);
      grid.later(key, WAIT);
      room.find(".room-saved").textContent = t("not saved yet");
    },

    later(key, wait) {
      const entry = unsaved.get(key);
      clearTimeout(entry.timer);
      entry.timer = setTimeout(() => grid.send(key), wait);
    },

    keep: (name) => grid.send(keyOf(name)),

    // One save of a caption at a time; what is typed while it is under way is sent after it.
    async send(key, force = false) {
      const entry = unsaved.get(key);
      if (!entry || (entry.asking && !force)) return undefined;
      clearTimeout(entry.timer);
      if (entry.sending) return entry.sending.then(() => grid.send(key, force));
      entry.sending = save(key, entry, force).finally(() => { entry.sending = null; });
      return entry.sending;
    },

    async flush() {
      await Promise.all([...unsaved.keys()].map((key) => grid.send(key)));
      await room.settled;
    },
  });

  const address = (entry, path) => `datasets/${encodeURIComponent(entry.set)}/${path}`;

  async function save(key, entry, force) {
    const { text } = entry, body = { name: entry.name, text, ...(force ? { force: true } : { seen: entry.seen }) };
    const sent = (room.settled = room.settled.then(() => room.ask("PUT", address(entry, "caption"), body)));
    room.settled = room.settled.catch(() => {});
    try {
      const now = await sent;
      entry.seen = text;
      entry.asking = false;
      if (entry.text === text) unsaved.delete(key);
      if (entry.set !== room.set) return;
      const item = room.item(entry.name);
      if (item) Object.assign(item, now.item);
      room.find(".room-saved").textContent = unsaved.size ? t("not saved yet") : t("saved");
      if (room.data) Object.assign(room.data, { undo: now.undo, redo: null, revision: now.revision });
      room.draw();
    } catch (error) {
      if (error.status === 409) return conflict(key, entry);
      if (!(error.status < 500)) grid.later(key, RETRY); // the server is gone or stumbled; what it refuses is not sent again
      room.find(".room-saved").textContent = t("not saved");
      room.say("bad", error.message);
    }
  }

  // Somebody else wrote this caption meanwhile: nothing is overwritten before the person has chosen.
  async function conflict(key, entry) {
    const { name } = entry;
    let theirs = "";
    try {
      theirs = (await room.ask("GET", address(entry, "item"), undefined, { picture: name })).caption;
    } catch (error) {
      grid.later(key, RETRY);
      return room.say("bad", error.message);
    }
    entry.asking = true;
    const dialog = room.find(".room-dialog");
    const close = () => { dialog.close(); room.load(); };
    const keep = async (text) => { entry.text = text; await grid.send(key, true); close(); };
    dialog.replaceChildren(
      el("h3", {}, t("The caption of {name} was changed meanwhile", { name })),
      el("div", { class: "two" }, el("div", {}, el("b", {}, t("Yours")), el("p", {}, entry.text)), el("div", {}, el("b", {}, t("Theirs")), el("p", {}, theirs))),
      el("div", { class: "buttons" },
        el("button", { type: "button", class: "primary", onclick: () => keep(entry.text) }, t("Keep mine")),
        el("button", { type: "button", onclick: () => { unsaved.delete(key); entry.node.value = theirs; close(); } }, t("Keep theirs")),
        el("button", { type: "button", onclick: () => keep(`${theirs}, ${entry.text}`) }, t("Join both"))));
    dialog.showModal();
    return undefined;
  }
  addEventListener("beforeunload", () => {
    for (const entry of unsaved.values()) fetch(room.url(address(entry, "caption")), { method: "PUT", keepalive: true, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name: entry.name, text: entry.text, seen: entry.seen }) });
  });
})();
