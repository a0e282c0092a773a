// One picture of the data set room: its crop to drag, nudge and zoom, its words with the tokens they become, its mask, and what a person decided about it.
(() => {
  "use strict";
  const room = window.studio.room, { el, t } = room;
  let host, drag = null, draft = null, drawn = "", prompts = "", painting = false;

  // The largest window of the written shape inside the picture, in shares of it, for a zoom of 1.
  function largest(item) {
    const { width, height } = room.data.settings, wanted = width / height, own = item.width / item.height;
    return own > wanted ? [wanted / own, 1] : [1, own / wanted];
  }

  function boxOf(item, crop) {
    const [w, h] = largest(item).map((side) => side / Math.max(1, crop.zoom));
    const put = (middle, side) => Math.min(Math.max(0, middle - side / 2), 1 - side);
    const left = put(crop.x, w), top = put(crop.y, h);
    return [left, top, left + w, top + h];
  }

  const cropOf = (item) => {
    if (draft && draft.set === room.set && draft.name === item.name) return draft.crop;
    if (item.crop) return item.crop;
    const [left, top, right, bottom] = item.box || [0, 0, 1, 1], [w] = largest(item);
    return { x: (left + right) / 2, y: (top + bottom) / 2, zoom: w / Math.max(1e-6, right - left) };
  };

  function place(item) {
    const frame = host.querySelector(".big .crop-box");
    if (!frame || !item.width) return;
    const [left, top, right, bottom] = boxOf(item, cropOf(item)).map((share) => 100 * share);
    frame.style.cssText = `left:${left}%;top:${top}%;width:${right - left}%;height:${bottom - top}%`;
    const { width } = room.data.settings, shown = Math.round((item.width * (right - left)) / 100);
    host.querySelector(".crop-size").textContent = t("{shown} pixels wide become {width}", { shown, width }) + (shown < width ? ` · ${t("too small: it will be enlarged")}` : "");
    host.querySelector(".crop-size").classList.toggle("over", shown < width);
    host.querySelector(".crop-zoom").value = String(Math.log2(Math.max(1, cropOf(item).zoom)));
  }

  function set(item, crop, now = false) {
    const [w, h] = largest(item).map((side) => side / Math.max(1, crop.zoom) / 2);
    const inside = (value, half) => Math.min(Math.max(half, value), 1 - half);
    draft = { set: room.set, name: item.name, crop: { x: inside(crop.x, w), y: inside(crop.y, h), zoom: Math.min(16, Math.max(1, crop.zoom)) } };
    place(item);
    clearTimeout(set.timer);
    set.timer = setTimeout(keep, now ? 0 : 500);
  }

  async function keep() {
    clearTimeout(set.timer);
    if (!draft || draft.set !== room.set) return;
    const { name, crop } = draft;
    const round = (value) => Math.round(value * 1e5) / 1e5;
    const kept = await choose([name], "crop", { x: round(crop.x), y: round(crop.y), zoom: round(crop.zoom) });
    if (kept && draft && draft.name === name && draft.crop === crop) draft = null; // a crop that was not saved, or moved since, stays as it is on the screen
  }

  const choose = (names, field, value) => room.act("POST", room.here("choices"), { names, field, value });

  function listen(stage) {
    stage.addEventListener("pointerdown", (event) => {
      const item = room.item();
      if (!item || !item.width || painting || event.button) return;
      const size = stage.querySelector(".frame").getBoundingClientRect();
      drag = { id: event.pointerId, x: event.clientX, y: event.clientY, crop: { ...cropOf(item) }, size };
      stage.setPointerCapture(event.pointerId);
      stage.focus({ preventScroll: true });
      event.preventDefault();
    });
    stage.addEventListener("pointermove", (event) => {
      if (!drag || drag.id !== event.pointerId) return;
      const item = room.item();
      set(item, { ...drag.crop, x: drag.crop.x + (event.clientX - drag.x) / drag.size.width, y: drag.crop.y + (event.clientY - drag.y) / drag.size.height });
    });
    for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, () => { if (drag) { drag = null; keep(); } });
    stage.addEventListener("wheel", (event) => {
      const item = room.item();
      if (!item || painting || !item.width) return;
      event.preventDefault();
      const crop = cropOf(item);
      set(item, { ...crop, zoom: crop.zoom * 2 ** (-event.deltaY / 600) });
    }, { passive: false });
    stage.addEventListener("keydown", (event) => {
      const item = room.item(), step = event.shiftKey ? 0.05 : 0.01;
      if (!item || painting || event.ctrlKey || event.metaKey || event.isComposing) return;
      const crop = cropOf(item), moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      if (event.key in moves) set(item, { ...crop, x: crop.x + moves[event.key][0], y: crop.y + moves[event.key][1] });
      else if (event.key === "+" || event.key === "=") set(item, { ...crop, zoom: crop.zoom * 1.05 });
      else if (event.key === "-") set(item, { ...crop, zoom: crop.zoom / 1.05 });
      else if (event.key === "Backspace" || event.key === "Delete") choose([item.name], "crop", null);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  const targets = () => (room.chosen.size > 1 && room.chosen.has(room.current) ? [...room.chosen] : [room.current]);

  function toggles(item) {
    const flag = (field, label) => el("label", { class: "check" }, el("input", { type: "checkbox", checked: item[field], onchange: (event) => choose(targets(), field, event.target.checked) }), t(label));
    const many = targets().length;
    return el("div", { class: "room-toggles" }, flag("left_out", "Leave out"), flag("held_out", "Hold out (validation)"), flag("flipped", "Mirrored copy"),
      el("label", { class: "check" }, t("Repeats"), el("input", { type: "number", min: 1, max: 100, value: String(item.repeats), onchange: (event) => choose(targets(), "repeats", Math.min(100, Math.max(1, Math.round(Number(event.target.value) || 1)))) })),
      many > 1 ? el("span", { class: "small" }, t("for {count} chosen pictures", { count: many })) : null);
  }

  function facts(item) {
    const parts = [item.width ? `${item.width}×${item.height}` : "", item.format, item.faces ? t("faces: {count}", { count: item.faces }) : "", item.sharpness ? t("sharpness {value}", { value: Math.round(item.sharpness) }) : "", item.alpha ? t("transparent") : ""];
    return parts.filter(Boolean).join(" · ");
  }

  // ---- the words that the trainer will see, with their tokens
  async function words(item) {
    const box = host.querySelector(".room-prompts"), stamp = JSON.stringify([item.name, item.caption, room.data.settings.template, room.data.settings.trigger, room.data.settings.vectors, room.data.templates]);
    if (stamp === prompts) return;
    prompts = stamp;
    box.classList.add("outdated");
    try {
      const answer = await room.ask("GET", room.here("prompts"), undefined, { picture: item.name });
      if (stamp !== prompts) return;
      box.replaceChildren(...answer.prompts.map((prompt) => el("div", { class: "prompt" }, el("span", { class: `tokens${prompt.count > 75 ? " over" : ""}` }, `${prompt.count} / 75`), ...chips(prompt))),
        ...answer.warnings.map((warning) => el("div", { class: "note warn" }, warning)));
    } catch (error) {
      if (stamp !== prompts) return;
      prompts = "";
      box.replaceChildren(el("div", { class: "note bad" }, error.message));
    }
    box.classList.remove("outdated");
  }

  function chips(prompt) {
    const parts = [];
    let at = 0, cut = false;
    for (const token of prompt.tokens) {
      if (token.start > at) parts.push(prompt.text.slice(at, token.start));
      if (!cut && prompt.cut !== null && token.start >= prompt.cut) { cut = true; parts.push(el("b", { class: "cut", title: t("The trainer reads no further than this.") }, "✂ 75")); }
      const named = prompt.name && token.start >= prompt.name[0] && token.end <= prompt.name[1];
      parts.push(el("span", { class: `token${cut ? " lost" : ""}${named ? " named" : ""}` }, prompt.text.slice(token.start, token.end)));
      at = token.end;
    }
    parts.push(prompt.text.slice(at));
    return parts;
  }

  async function revisions(item) {
    const found = await room.act("GET", room.here("revisions"), undefined, { picture: item.name });
    if (!found) return;
    const list = found.revisions;
    const box = room.openers.dialog(t("Earlier captions of {name}", { name: item.name }),
      el("div", { class: "scroll" }, list.length ? list.map((one) => el("div", { class: "revision" }, el("span", { class: "small" }, `${new Date(one.at * 1000).toLocaleString()} · ${one.edit}`), el("p", {}, one.text ?? t("no caption")),
        el("button", { type: "button", onclick: async () => { box.close(); await room.act("PUT", room.here("caption"), { name: item.name, text: one.text ?? "", force: true }); } }, t("Use this one")))) : el("p", {}, t("Nothing was changed yet."))),
      el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => box.close() }, t("Close"))));
  }

  // ---- the mask, painted on the same canvas as in img2img
  async function paint(item) {
    painting = true;
    drawn = "";
    room.drawPanel();
    const root = host.querySelector(".mask-canvas");
    let canvas = null;
    while (!(canvas = window.studio.canvas("room_mask")) || canvas.root !== root) await new Promise((done) => setTimeout(done, 20));
    await canvas.load(room.picture("view", item.name, item.version));
    canvas.fit();
    if (item.mask) await canvas.ink.read(await (await fetch(room.picture("mask", item.name, item.mask))).blob());
  }

  function painted() {
    painting = false;
    drawn = "";
    room.drawPanel();
  }

  async function savePaint(item) {
    const { ink } = window.studio.canvas("room_mask");
    host.inert = true; // no stroke is painted while the mask is sent: it would not be in the file
    try {
      const blob = ink.painted ? await ink.file() : null;
      if (await room.act(blob ? "PUT" : "DELETE", room.here("mask"), blob || undefined, { picture: item.name })) painted();
    } finally {
      host.inert = false;
    }
  }

  room.panels.unshift({
    id: "picture", title: "Picture",
    build(element) { host = element; },
    flush: keep,
    draw() {
      const item = room.item();
      if (!item) return host.replaceChildren(el("p", { class: "small" }, t("Choose a picture.")));
      const stamp = JSON.stringify([item, room.data.settings.width, room.data.settings.height, targets().length, painting]);
      const typing = host.querySelector(".room-toggles input[type=number]:focus");
      if (stamp === drawn || drag || (typing && drawn && typing.value !== typing.defaultValue && JSON.parse(drawn)[0].name === item.name)) return; // a number that is being typed is not drawn over
      if (drawn && painting && JSON.parse(drawn)[0].name === item.name) return;
      if (painting && drawn && JSON.parse(drawn)[0].name !== item.name) painting = false;
      drawn = stamp;
      if (painting) {
        host.replaceChildren(
          el("div", { class: "mask-canvas", dataset: { canvas: "room_mask", mode: "mask", own: "" } }),
          el("p", { class: "small" }, t("Paint what shall be learned; what is not painted is left out of the loss.")),
          el("div", { class: "buttons" }, el("button", { type: "button", class: "primary", onclick: () => savePaint(item) }, t("Keep the mask")), el("button", { type: "button", onclick: painted }, t("Cancel"))));
        return;
      }
      const stage = el("div", { class: "big", tabindex: "0", "aria-label": t("The crop: drag it, or use the arrow keys; + and - zoom, Delete goes back to the suggestion.") },
        el("span", { class: "frame", style: item.width ? `aspect-ratio:${item.width}/${item.height};--shape:${item.width / item.height}` : "" },
          item.problem ? null : el("img", { src: room.picture("view", item.name, item.version), alt: item.name, draggable: "false" }),
          item.mask ? el("img", { class: "mask-shown", src: room.picture("mask", item.name, item.mask), alt: t("mask") }) : null,
          item.width ? el("i", { class: `crop-box${item.crop ? " own" : ""}` }) : null));
      const act = (label, run, more = {}) => el("button", { type: "button", onclick: run, ...more }, t(label));
      room.put(host,
        stage,
        item.problem ? el("div", { class: "note bad" }, item.problem) : null,
        el("div", { class: "room-crop" },
          el("label", { class: "check" }, t("Zoom"), el("input", { type: "range", class: "crop-zoom", min: "0", max: "4", step: "0.01", oninput: (event) => set(item, { ...cropOf(item), zoom: 2 ** Number(event.target.value) }) })),
          act("As suggested", () => choose(targets(), "crop", null), { disabled: !item.crop && targets().length < 2 }), act("Centre", () => set(item, { x: 0.5, y: 0.5, zoom: 1 }, true)),
          el("span", { class: "crop-size small" })),
        el("div", { class: "room-crop" }, act(item.mask ? "Edit the mask" : "Paint a mask", () => paint(item), { disabled: !item.width, class: "paint-mask" }), item.mask ? act("Remove the mask", () => room.act("DELETE", room.here("mask"), undefined, { picture: item.name })) : null, act("Earlier captions", () => revisions(item))),
        toggles(item),
        el("p", { class: "small facts" }, facts(item)),
        el("h4", {}, t("What the trainer will read")),
        el("div", { class: "room-prompts" }));
      listen(stage);
      place(item);
      prompts = "";
      words(item);
    },
  });
})();
