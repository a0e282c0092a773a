// Words of a whole data set: captions written by models, changes to many captions with a preview, and all tags with their counts.
(() => {
  "use strict";
  const room = window.studio.room, { el, t } = room;
  const scopes = [["all", "all pictures"], ["filtered", "filtered pictures"], ["selected", "chosen pictures"]];
  const select = (name, options, value, more = {}) => el("select", { name, ...more }, options.map(([id, label]) => el("option", { value: id, selected: id === value }, t(label))));
  const names = () => [...room.chosen];
  const act = (label, run, more = {}) => el("button", { type: "button", onclick: run, ...more }, t(label));

  // One knob of a request as the server declares it.
  function knob(field, value) {
    const common = { name: field.name, title: field.help }, now = value ?? field.default;
    if (field.kind === "flag") return el("label", { class: "check", title: field.help }, el("input", { type: "checkbox", ...common, checked: Boolean(now) }), t(field.label));
    const share = field.kind === "number" && field.minimum === 0 && field.maximum === 1;
    if (share) {
      const shown = el("output", {}, String(now)), range = el("input", { type: "range", ...common, min: 0, max: 1, step: field.step || 0.01, oninput: () => { shown.textContent = range.value; } });
      range.value = now;
      return el("label", { class: "field", title: field.help }, t(field.label), el("span", { class: "share" }, range, shown));
    }
    const input = field.kind === "choice" ? el("select", common, field.choices.map((choice) => el("option", { value: choice, selected: choice === now }, t(choice))))
      : field.kind === "number" || field.kind === "integer" ? el("input", { type: "number", ...common, min: field.minimum, max: field.maximum, step: field.step || (field.kind === "integer" ? 1 : "any"), value: now ?? "" })
        : el("input", { type: "text", ...common, value: now ?? "" });
    return el("label", { class: "field", title: field.help }, t(field.label), input);
  }

  function values(host, fields) {
    const found = {};
    for (const field of fields) {
      const input = host.querySelector(`[name="${field.name}"]`);
      if (!input) continue;
      if (field.kind === "flag") found[field.name] = input.checked;
      else if (field.kind === "number" || field.kind === "integer") { if (input.value !== "") found[field.name] = Number(input.value); }
      else found[field.name] = input.value;
    }
    return found;
  }
  Object.assign(room, { knob, values });

  // ---- captions by models
  let captionHost, knobs = null;
  room.panels.push({
    id: "caption", title: "Caption",
    build(host) {
      captionHost = host;
      host.addEventListener("change", () => this.scopeLine());
    },
    async draw() {
      if (knobs && !this.stale) return this.scopeLine();
      const typed = knobs ? { ...values(captionHost, knobs.fields), scope: captionHost.querySelector("[name=scope]").value } : {};
      const ticked = knobs && new Set([...captionHost.querySelectorAll("[name=captioner]:checked")].map((box) => box.value));
      knobs = await room.ask("GET", "captioners");
      this.stale = false;
      const here = knobs.captioners.filter((one) => one.here), offers = knobs.captioners.filter((one) => !one.here);
      const list = el("div", { class: "room-models" }, here.map((one) => el("label", { class: "check", title: one.help }, el("input", { type: "checkbox", name: "captioner", value: one.label, checked: ticked ? ticked.has(one.label) : one.chosen }), one.title, one.tiny ? el("span", { class: "small" }, " ", t("This captioner only knows the tiny world that ships with the studio. Download another one for photos and art.")) : null)),
        el("details", {}, el("summary", {}, t("More models")), el("p", { class: "small" }, t("They are fetched from the model hub when you press Download, and lie in models/ then.")),
          offers.map((one) => el("div", { class: "offer" }, el("span", {}, one.label), el("span", { class: "small" }, one.download), act("Download", () => room.start("download", { captioner: one.label }), { title: one.download })))));
      captionHost.replaceChildren(
        el("p", { class: "small" }, t("Models look at the pictures and write what they see. Several are joined with a comma. What they write can be undone as one step.")),
        list,
        el("label", { class: "field" }, t("For"), select("scope", scopes, typed.scope || "all")),
        el("div", { class: "knobs" }, knobs.fields.filter((field) => !field.advanced).map((field) => knob(field, typed[field.name]))),
        el("details", {}, el("summary", {}, t("More")), el("div", { class: "knobs" }, knobs.fields.filter((field) => field.advanced).map((field) => knob(field, typed[field.name])))),
        el("div", { class: "buttons" }, act("Write captions", () => this.run(), { class: "primary run-caption" })),
        el("p", { class: "small scope-line" }));
      this.scopeLine();
    },
    scopeLine() {
      const scope = captionHost.querySelector("[name=scope]")?.value, line = captionHost.querySelector(".scope-line");
      if (line) line.textContent = t("{count} pictures", { count: scope === "all" ? room.data.total - room.data.left_out : scope === "filtered" ? room.data.matched : room.chosen.size });
    },
    async run() {
      const captioners = [...captionHost.querySelectorAll("[name=captioner]:checked")].map((box) => box.value);
      if (!captioners.length) return room.say("bad", t("Choose at least one model."));
      const scope = captionHost.querySelector("[name=scope]").value;
      let chosen = [];
      if (scope === "selected") chosen = names();
      if (scope === "filtered") chosen = (await room.act("GET", room.here("names"), undefined, { filter: room.filter }))?.names || [];
      if (scope !== "all" && !chosen.length) return room.say("bad", t("No picture is chosen."));
      return room.start("caption", { captioners, names: chosen, ...values(captionHost, knobs.fields) });
    },
    jobs(kinds) {
      const button = captionHost.querySelector(".run-caption");
      if (button) button.disabled = kinds.has("caption");
      if (this.fetching && !kinds.has("download")) { this.stale = true; if (room.panel === "caption") room.drawPanel(); }
      this.fetching = kinds.has("download");
    },
  });

  // ---- changes to many captions
  let bulkHost, kinds = null, plan = null;
  room.panels.push({
    id: "bulk", title: "Edit many",
    build(host) { bulkHost = host; },
    async draw() {
      if (!kinds) {
        kinds = await room.ask("GET", "bulk");
        bulkHost.replaceChildren(
          el("label", { class: "field" }, t("What"), select("kind", kinds.map((kind) => [kind.kind, kind.label]), "replace", { onchange: () => this.fields() })),
          el("div", { class: "knobs bulk-fields" }),
          el("label", { class: "field" }, t("For"), select("scope", scopes, "all", { onchange: () => this.preview() })),
          el("div", { class: "buttons" }, act("Change", () => this.run(), { class: "primary run-bulk", disabled: true })),
          el("div", { class: "bulk-preview" }));
        this.fields();
      } else if (room.data.revision !== this.seen) this.preview();
    },
    fields() {
      const box = bulkHost.querySelector(".bulk-fields");
      box.replaceChildren(el("p", { class: "small" }, t(chosenKind().help)), ...chosenKind().fields.map((field) => knob(field)));
      for (const input of box.querySelectorAll("input, select")) input.addEventListener("input", () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.preview(), 250); });
      this.preview();
    },
    body: (dry) => ({ edit: { kind: chosenKind().kind, ...values(bulkHost.querySelector(".bulk-fields"), chosenKind().fields) }, scope: bulkHost.querySelector("[name=scope]").value, filter: room.filter, names: names(), dry }),
    async preview() {
      this.seen = room.data.revision;
      const button = bulkHost.querySelector(".run-bulk"), box = bulkHost.querySelector(".bulk-preview"), mine = (this.asked = (this.asked || 0) + 1);
      if (chosenKind().fields.some((field) => field.required && !bulkHost.querySelector(`.bulk-fields [name="${field.name}"]`).value)) {
        button.disabled = true;
        button.textContent = t("Change");
        return box.replaceChildren();
      }
      await room.grid.flush();
      try {
        plan = await room.ask("POST", room.here("bulk"), this.body(true));
        if (mine !== this.asked) return;
        button.disabled = !plan.changed;
        button.textContent = plan.changed ? t("Change {changed} captions ({matches} places)", plan) : t("Nothing to change");
        box.replaceChildren(...(plan.note ? [el("p", { class: "small" }, plan.note)] : []), ...(plan.preview.length ? [el("p", { class: "small" }, t("The first {count} of {changed}:", { count: plan.preview.length, changed: plan.changed }))] : []), ...plan.preview.map((one) => difference(one)));
      } catch (error) {
        if (mine !== this.asked) return;
        button.disabled = true;
        button.textContent = t("Change");
        box.replaceChildren(el("div", { class: "note bad" }, error.message));
      }
    },
    async run() {
      await room.grid.flush();
      const done = await room.act("POST", room.here("bulk"), this.body(false));
      if (done) room.say("good", t("{changed} captions changed: {name}. Undo takes it back.", done));
    },
  });
  const chosenKind = () => kinds.find((one) => one.kind === bulkHost.querySelector("[name=kind]").value);

  // What stays is left plain, what goes and what comes is marked. Places are counted in characters, as the server counts them.
  function difference({ name, before, after, spans }) {
    const old = [...(before || "")], now = [...(after || "")], parts = [];
    let at = 0;
    for (const [from, to, start, end] of spans) {
      parts.push(old.slice(at, from).join(""), el("del", {}, old.slice(from, to).join("")), el("ins", {}, now.slice(start, end).join("")));
      at = to;
    }
    return el("div", { class: "difference" }, el("span", { class: "name" }, name), el("p", {}, ...parts, old.slice(at).join("")));
  }

  // ---- tags
  let tagHost, tagStamp = "";
  room.panels.push({
    id: "tags", title: "Tags",
    build(host) { tagHost = host; },
    async draw() {
      if (tagStamp === room.data.revision) return;
      const mine = (tagStamp = room.data.revision);
      let tags = null;
      try {
        tags = await room.ask("GET", room.here("tags"));
      } catch (error) {
        if (mine === tagStamp) {
          tagStamp = "";
          tagHost.replaceChildren(el("div", { class: "note bad" }, error.message), el("div", { class: "buttons" }, act("Try again", () => room.drawPanel())));
        }
        return;
      }
      if (mine !== tagStamp) return;
      const find = (tag) => room.grid.filter(`tag:"${tag.replace(/(["\\*?])/g, "\\$1")}"`);
      const rows = tags.tags.map((one) => el("tr", {}, el("td", { class: "num" }, String(one.count)), el("td", {}, el("button", { type: "button", class: "link", title: t("Show the pictures with this tag"), onclick: () => find(one.tag) }, one.tag)),
        el("td", { class: "acts" }, act("Rename", () => rename(one.tag)), act("Remove", () => bulk({ kind: "remove_tag", tag: one.tag })))));
      const notes = [
        tags.everywhere.length ? t("In every caption: {tags}. What a caption names is not learned by the trained word; take it out where the word shall learn it.", { tags: tags.everywhere.join(", ") }) : "",
        ...tags.alike.map(([one, other]) => t("“{one}” and “{other}” look like the same tag.", { one, other })),
      ].filter(Boolean);
      const search = el("input", { type: "search", placeholder: t("Find a tag"), "aria-label": t("Find a tag"), oninput: (event) => { for (const row of rows) row.hidden = !row.children[1].textContent.toLowerCase().includes(event.target.value.toLowerCase()); } });
      tagHost.replaceChildren(...notes.slice(0, 6).map((text) => el("div", { class: "note" }, text)), el("div", { class: "room-bar" }, search, el("span", { class: "small" }, t("{count} tags", { count: tags.count }))), el("div", { class: "scroll" }, el("table", { class: "plain tag-table" }, el("tbody", {}, rows))));
    },
  });

  async function bulk(edit) {
    const done = await room.act("POST", room.here("bulk"), { edit, scope: "all", filter: "", names: [], dry: false });
    if (done) room.say("good", t("{changed} captions changed: {name}. Undo takes it back.", done));
    return done;
  }

  function rename(tag) {
    const field = el("input", { type: "text", value: tag, "aria-label": t("New name") });
    const reason = el("p", { class: "note bad", hidden: true });
    const go = async () => {
      if (await bulk({ kind: "rename_tag", tag, to: field.value })) return box.close();
      reason.textContent = room.find(".room-say").textContent;
      reason.hidden = false;
    };
    const box = room.openers.dialog(t("Rename the tag “{tag}” in all captions", { tag }), field, reason, el("div", { class: "buttons" }, act("Rename", go, { class: "primary" }), act("Cancel", () => box.close())));
    field.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing) { event.preventDefault(); go(); } });
    field.select();
  }
})();
