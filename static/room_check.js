// What is wrong with a data set and how it is mended, what it is for, its masks, its templates, and the writing of the finished pictures.
(() => {
  "use strict";
  const room = window.studio.room, { el, t } = room;
  const act = (label, run, more = {}) => el("button", { type: "button", onclick: run, ...more }, t(label));

  // ---- the doctor
  let checkHost, report = null, stamp = "";
  room.panels.push({
    id: "check", title: "Check",
    build(host) { checkHost = host; },
    async draw() {
      if (stamp === room.data.revision) return;
      const mine = (stamp = room.data.revision);
      checkHost.classList.add("outdated"); // what is shown was found in an older state of the data set
      try {
        const found = await room.ask("GET", room.here("doctor"));
        if (mine !== stamp) return;
        report = found;
      } catch (error) {
        if (mine !== stamp) return;
        stamp = "";
        checkHost.classList.remove("outdated");
        room.put(checkHost, el("div", { class: "note bad" }, error.message), el("div", { class: "buttons" }, act("Try again", () => room.drawPanel())));
        return;
      }
      checkHost.classList.remove("outdated");
      const open = report.findings.filter((one) => !one.ignored), ignored = report.findings.filter((one) => one.ignored);
      room.put(checkHost,
        report.unexamined ? el("div", { class: "note busy" }, t("{count} pictures were not looked at yet.", { count: report.unexamined }), " ", act("Examine", () => room.start("examine", {}))) : null,
        el("div", { class: `note ${open.some((one) => one.severity === "problem") ? "bad" : open.length ? "warn" : "good"}` },
          open.length ? t("findings: {count}", { count: open.length }) : t("Nothing is wrong with this data set.")),
        ...open.map(finding),
        ignored.length ? el("details", {}, el("summary", {}, t("{count} ignored", { count: ignored.length })), ...ignored.map(finding)) : null,
        advice(report.advice),
        el("details", {}, el("summary", {}, t("Figures of this data set")), el("table", { class: "plain" }, el("tbody", {}, report.statistics.map(([label, value]) => el("tr", {}, el("td", {}, t(label)), el("td", { class: "num" }, String(value))))))),
        el("div", { class: "buttons" }, act("Examine all again", () => room.start("examine", { again: true })), report.clip ? act("Compare with CLIP", () => room.start("compare", {}), { title: t("Finds pictures that show the same in other pixels.") }) : null));
    },
  });

  function finding(one) {
    const { why, encoding: read } = one.values, words = { ...(why && { why: t(why) }), ...(read && { encoding: t(read) }) };
    const sentence = t(one.text, { ...one.values, ...words });
    const mend = async () => {
      const done = await room.act("POST", room.here("doctor/fix"), { key: one.key });
      if (done) room.say("good", t("{name} ({count}). Undo takes it back.", done));
    };
    return el("div", { class: `finding ${one.severity}`, dataset: { check: one.id } },
      el("p", {}, sentence),
      one.items.length ? el("div", { class: "strip" }, one.items.slice(0, 8).map((name) => el("img", { src: room.picture("thumb", name, ""), alt: name, title: name, loading: "lazy", onerror: (event) => event.target.remove(), onclick: () => show(one.items) })), one.items.length > 8 ? el("button", { type: "button", class: "link", onclick: () => show(one.items) }, t("all {count}", { count: one.items.length })) : null) : null,
      one.id === "caption_encoding" ? encoding() : null,
      el("div", { class: "buttons" },
        one.fix ? el("button", { type: "button", class: "primary fix", onclick: mend }, t(one.fix_label)) : null,
        one.items.length ? act("Show", () => show(one.items)) : null,
        act(one.ignored ? "Do not ignore" : "Ignore", () => room.act("POST", room.here("doctor/ignore"), { key: one.key, ignored: !one.ignored }))));
  }

  // The encoding in which this dataset's captions are read; every caption is shown anew.
  function encoding() {
    const labels = ["Automatic", "Chinese (GBK)", "Traditional Chinese (Big5)", "Japanese (Shift-JIS)", "Korean (EUC-KR)", "Western European (Windows-1252)", "Cyrillic (Windows-1251)"];
    const keep = (event) => room.act("PUT", room.here("settings"), { caption_encoding: event.target.value });
    return el("label", { class: "field" }, t("Caption encoding"), el("select", { name: "caption_encoding", onchange: keep }, labels.map((label) => el("option", { value: label, selected: label === room.data.settings.caption_encoding }, t(label)))));
  }

  function show(names) {
    const quoted = names.slice(0, 40).map((name) => `name:"${name.replace(/(["\\*?])/g, "\\$1")}"`);
    room.grid.filter(quoted.join(" OR "));
  }

  function advice(one) {
    if (!one) return null;
    return el("div", { class: "note advice" }, el("b", {}, t("Good settings for {count} pictures on {family}", one)),
      el("p", {}, t(one.vectors ? "{vectors} vectors · {steps} steps · learning rate {rate} · batch {batch} × {accumulation}" : "{steps} steps · learning rate {rate} · batch {batch} × {accumulation}", one)),
      ...one.reasons.map((reason) => el("p", { class: "small" }, t(reason.text, reason.values))));
  }

  // ---- what it is for, and writing it
  let writeHost, fields = null, settingsStamp = "";
  const CROP = ["width", "height", "face_weight", "entropy_weight", "edges_weight"];
  room.panels.push({
    id: "write", title: "Size & write",
    build(host) { writeHost = host; },
    async draw() {
      if (!fields) fields = await room.ask("GET", "room");
      const now = JSON.stringify([room.set, room.data.settings]);
      if (settingsStamp === now || this.saving || (writeHost.contains(document.activeElement) && writeHost.querySelector("input:focus"))) return this.line();
      const typed = settingsStamp && this.set === room.set ? room.values(writeHost, [...fields.write, ...fields.export]) : {}; // what is not saved by itself stays as it was typed
      settingsStamp = now;
      this.set = room.set;
      const knobs = (list) => list.map((name) => room.knob(fields.settings.find((field) => field.name === name), room.data.settings[name]));
      writeHost.replaceChildren(
        el("p", { class: "small" }, t("Nothing is written before you press Write. The grid shows where each picture will be cut.")),
        el("div", { class: "knobs two settings" }, knobs(["width", "height"])),
        el("div", { class: "room-sizes" }, [[512, 512], [512, 768], [768, 512], [768, 768], [1024, 1024]].map(([width, height]) => el("button", { type: "button", onclick: () => this.keep({ width, height }) }, `${width}×${height}`))),
        el("details", { open: true }, el("summary", {}, t("What the crop follows")), el("div", { class: "knobs settings" }, knobs(["face_weight", "entropy_weight", "edges_weight"]))),
        el("div", { class: "knobs writing" }, fields.write.filter((field) => !field.advanced).map((field) => room.knob(field, typed[field.name]))),
        el("details", {}, el("summary", {}, t("More")), el("div", { class: "knobs writing-more" }, fields.write.filter((field) => field.advanced).map((field) => room.knob(field, typed[field.name])))),
        el("div", { class: "buttons" }, act("Write", () => this.write(), { class: "primary run-write" }), act("Train with these pictures", () => this.train(), { class: "use-set" })),
        el("p", { class: "small write-line" }),
        el("details", {}, el("summary", {}, t("Give it away for another trainer")), el("div", { class: "knobs giving" }, fields.export.map((field) => room.knob(field, typed[field.name]))), el("div", { class: "buttons" }, act("Export the originals with captions", () => this.give()))));
      for (const input of writeHost.querySelectorAll(".settings input")) input.addEventListener("change", () => this.keep(room.values(writeHost, fields.settings.filter((field) => CROP.includes(field.name)))));
      this.line();
    },
    line() {
      const line = writeHost.querySelector(".write-line");
      if (line) line.textContent = t("{count} pictures will be written; the originals stay as they are.", { count: room.data.total - room.data.left_out });
    },
    saving: 0,
    // While a save is under way its answer, or that of an older one, does not draw over the fields.
    async keep(values) {
      this.saving++;
      const kept = (this.kept = room.act("PUT", room.here("settings"), values));
      await kept;
      this.saving--;
      if (await kept && !this.saving && room.data && !writeHost.hidden) room.drawPanel();
    },
    async write() {
      await this.kept;
      return room.start("write", { ...Object.fromEntries(CROP.map((name) => [name, room.data.settings[name]])), ...room.values(writeHost, fields.write) });
    },
    give() {
      return room.start("export", room.values(writeHost, fields.export));
    },
    async train() {
      await room.flush();
      const found = await room.act("GET", room.here("written"));
      if (!found) return;
      const { folder } = found;
      const field = document.querySelector("#room_train textarea, #room_train input");
      field.value = folder;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      setTimeout(() => document.querySelector("#room_use").click(), 120);
    },
    jobs(kinds, list) {
      const button = writeHost.querySelector(".run-write");
      if (button) button.disabled = kinds.has("write");
      const done = list.find((job) => job.kind === "write" && job.state === "done"), line = writeHost.querySelector(".write-line");
      if (done && line) line.textContent = t("{written} pictures were written to {destination}.", done.result);
    },
  });

  // ---- masks for many pictures
  let maskHost, masks = null;
  room.panels.push({
    id: "masks", title: "Masks",
    build(host) { maskHost = host; },
    async draw() {
      if (!masks) {
        masks = await room.ask("GET", "segmenters");
        maskHost.replaceChildren(
          el("p", { class: "small" }, t("A mask says what is learned. It is found from the face or the middle of the crop, lies beside the picture, and can be painted by hand under Picture. When writing, what lies outside can become white or any colour.")),
          el("div", { class: "knobs" }, masks.fields.map((field) => room.knob(field))),
          el("label", { class: "field" }, t("For"), el("select", { name: "scope" }, [["all", "all pictures"], ["selected", "chosen pictures"]].map(([value, label]) => el("option", { value }, t(label))))),
          el("div", { class: "buttons" }, act("Cut out the subjects", () => this.run(), { class: "primary run-mask" })));
      }
    },
    run() {
      const chosen = maskHost.querySelector("[name=scope]").value === "selected" ? [...room.chosen] : [];
      if (maskHost.querySelector("[name=scope]").value === "selected" && !chosen.length) return room.say("bad", t("No picture is chosen."));
      return room.start("mask", { names: chosen, ...room.values(maskHost, masks.fields) });
    },
    jobs(kinds) {
      const button = maskHost.querySelector(".run-mask");
      if (button) button.disabled = kinds.has("mask");
    },
  });

  // ---- the word and the sentences it is trained in
  let templateHost, shown = "", previewed = "", open = "";
  const drafts = new Map(); // template -> text that is typed and not kept yet
  room.panels.push({
    id: "template", title: "Word & template",
    build(host) { templateHost = host; },
    async draw() {
      const { settings, templates } = room.data;
      const now = JSON.stringify([room.set, settings, templates]);
      if (shown === now) return;
      if (templateHost.querySelector("textarea:focus, input:focus")) { // typing goes on: only the prompts below follow the new settings
        const typed = templateHost.querySelector("textarea");
        if (typed && previewed !== now) this.preview(typed.value);
        previewed = now;
        return;
      }
      shown = previewed = now;
      open = settings.template;
      const mine = open, keep = (values) => room.act("PUT", room.here("settings"), values);
      const text = el("textarea", { rows: 10, spellcheck: "false", class: "room-words", "aria-label": t("Template"), oninput: () => { drafts.set(mine, text.value); clearTimeout(this.timer); this.timer = setTimeout(() => this.preview(text.value), 300); } });
      const knobs = el("div", { class: "knobs" },
        el("label", { class: "field" }, t("Trigger word"), el("input", { type: "text", value: settings.trigger, onchange: (event) => keep({ trigger: event.target.value }) })),
        el("label", { class: "field" }, t("Vectors per token"), el("input", { type: "number", min: 1, max: 75, value: String(settings.vectors), onchange: (event) => keep({ vectors: Number(event.target.value) || 1 }) })),
        el("label", { class: "field" }, t("Training"), el("select", { onchange: (event) => keep({ method: event.target.value }) }, ["textual_inversion", "lora", "lycoris", "hypernetwork", "dreambooth", "fine_tune", "together"].map((method) => el("option", { value: method, selected: method === settings.method }, t(method))))),
        el("label", { class: "field" }, t("Prompt template"), el("select", { onchange: (event) => keep({ template: event.target.value }) }, templates.map((name) => el("option", { value: name, selected: name === settings.template }, name)))));
      templateHost.replaceChildren(
        knobs,
        text,
        el("div", { class: "buttons" }, act("Keep this template", () => this.keep(text.value), { class: "primary" }), act("Keep as …", () => this.copy(text.value)), act("Delete", () => this.drop(), { class: "drop-template" })),
        el("p", { class: "small draft-line", hidden: !drafts.has(open) }, t("The text above is not kept yet.")),
        el("p", { class: "small" }, t("One prompt per line. [name] becomes the trigger word, [filewords] the caption.")),
        el("div", { class: "template-preview" }));
      text.disabled = !drafts.has(mine);
      text.value = drafts.get(mine) ?? "";
      try {
        const file = await room.ask("GET", "templates/one", undefined, { name: mine });
        if (!drafts.has(mine)) text.value = file.text;
        templateHost.querySelector(".drop-template").disabled = !file.own;
      } catch (error) {
        shown = "";
        throw error;
      } finally {
        text.disabled = false;
      }
      this.preview(text.value);
    },
    async preview(text) {
      const box = templateHost.querySelector(".template-preview"), names = room.data.items.slice(0, 3).map((item) => item.name), mine = (this.asked = (this.asked || 0) + 1);
      templateHost.querySelector(".draft-line").hidden = !drafts.has(open);
      try {
        const answer = await room.ask("POST", room.here("template-preview"), { text, names });
        if (mine !== this.asked) return;
        box.replaceChildren(...answer.warnings.map((warning) => el("div", { class: "note warn" }, warning)), ...answer.prompts.map((prompt) => el("div", { class: "prompt" }, el("span", { class: `tokens${prompt.count > 75 ? " over" : ""}` }, `${prompt.count} / 75`), prompt.text)));
      } catch (error) {
        if (mine !== this.asked) return;
        box.replaceChildren(el("div", { class: "note bad" }, error.message));
      }
    },
    async keep(text, name = open) {
      const source = open;
      if (await room.act("PUT", "templates/one", { name, text })) {
        if (drafts.get(source) === text) drafts.delete(source);
        shown = "";
        document.activeElement?.blur();
        if (name === open) room.drawPanel();
        else await room.act("PUT", room.here("settings"), { template: name });
        room.say("good", t("The template {name} is kept.", { name }));
      }
    },
    copy(text) {
      const field = el("input", { type: "text", value: `${open}-2`, "aria-label": t("Name") });
      const box = room.openers.dialog(t("Keep the template as"), field, el("div", { class: "buttons" }, act("OK", () => { box.close(); this.keep(text, field.value); }, { class: "primary" }), act("Cancel", () => box.close())));
    },
    async drop() {
      if (await room.act("DELETE", "templates/one", undefined, { name: open })) { drafts.delete(open); shown = ""; room.drawPanel(); room.say("good", t("The template {name} lies in the trash folder now.", { name: open })); }
    },
  });
})();
