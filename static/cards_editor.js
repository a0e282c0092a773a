// The details of one network: what its file says, a person's notes and picture, its name, and texts written into the file.
(() => {
  "use strict";
  const { el, put, t, ask, dialog } = window.studio.parts;
  const FAMILIES = ["SD1", "SD2", "SDXL", "Unknown"];
  const field = (label, control) => el("label", { class: "field" }, el("span", {}, label), control);
  const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

  async function open(drawer, card) {
    const path = `networks/${card.kind}`;
    let one = null;
    try {
      one = await ask("GET", `${path}/one`, undefined, { name: card.name });
    } catch (error) {
      return drawer.say("bad", error.message);
    }
    const box = dialog(card.name, (close) => editor(drawer, one, path, close));
    box.classList.add("cards-dialog");
    return undefined;
  }

  function editor(drawer, one, path, close) {
    const told = el("div", { role: "status" });
    const say = (kind, text) => put(told, el("div", { class: `note ${kind}` }, text));
    // Does something, says how it went, and draws the cards anew.
    const act = async (work, done) => {
      try {
        const answer = await work();
        await drawer.load();
        if (done) say("good", done);
        return answer;
      } catch (error) {
        say("bad", error.message);
        return null;
      }
    };
    return [
      el("div", { class: "card-top" }, picture(drawer, one, path, act), facts(one)), told,
      noted(one, path, act), named(drawer, one, path, act, close), one.writable ? written(one, path, act) : null, tags(drawer, one), sections(one),
      el("div", { class: "buttons" }, el("button", { type: "button", class: "stop", onclick: () => remove(drawer, one, path, act, close) }, t("Delete")), el("button", { type: "button", onclick: close }, t("Close"))),
    ];
  }

  function picture(drawer, one, path, act) {
    const host = el("div", { class: "card-picture" });
    const show = (card) => put(host, card.picture ? el("img", { src: drawer.picture(card, 1280), alt: t("Picture of {name}", { name: card.name }) }) : el("span", { class: "card-blank" }, t("No picture")));
    const take = async (work) => { const card = await act(work, t("The picture is kept beside the file.")); if (card) show(card); };
    const file = el("input", { type: "file", accept: "image/png,image/jpeg,image/webp", hidden: true, onchange: (event) => {
      const [chosen] = event.target.files, body = new FormData();
      if (chosen) { body.append("file", chosen); take(() => ask("POST", `${path}/picture`, body, { name: one.name })); }
      event.target.value = "";
    } });
    show(one);
    return el("div", {}, host, file, el("div", { class: "buttons" },
      el("button", { type: "button", onclick: () => file.click() }, t("Picture from a file…")),
      el("button", { type: "button", onclick: () => take(() => ask("POST", `${path}/newest_picture`, {}, { name: one.name })) }, t("The newest painted picture"))));
  }

  function facts(one) {
    const rows = [[t("Kind"), one.method], [t("Rank"), one.rank], [t("Family"), one.family], [t("Steps"), one.step], [t("Alias"), one.alias], [t("Hash"), one.hash], [t("File"), one.folder ? `${one.folder}/${one.file}` : one.file], [t("Size"), size(one.size)], [t("Changed"), new Date(1000 * one.changed).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })], [t("In a prompt"), one.text]];
    return el("div", {}, one.problem ? el("div", { class: "note bad" }, one.problem) : null, el("dl", { class: "card-rows" }, rows.filter(([, value]) => value).map(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])));
  }

  // A1111's user metadata, beside the file.
  function noted(one, path, act) {
    const says = one.file_family ? t("As the file says: {family}", { family: one.file_family }) : t("Not known");
    const box = {
      description: el("textarea", { rows: 3, value: one.noted.description || one.description }), trigger: el("textarea", { rows: 2, value: one.trigger }),
      weight: el("input", { type: "number", step: 0.05, min: -10, max: 10, value: String(one.noted.weight) }), negative: el("textarea", { rows: 1, value: one.negative }),
      family: el("select", {}, [["", says], ...FAMILIES.map((name) => [name, name])].map(([value, label]) => el("option", { value, selected: value === one.noted.family }, label))), notes: el("textarea", { rows: 3, value: one.notes }),
    };
    // What was not touched is not noted, so that the file's own words stay in use.
    const was = Object.fromEntries(Object.entries(box).map(([name, part]) => [name, part.value]));
    const keep = (event) => {
      event.preventDefault();
      const sent = Object.fromEntries(Object.entries(box).map(([name, part]) => [name, part.value]));
      const values = Object.fromEntries(Object.entries(sent).filter(([name, value]) => value !== was[name]).map(([name, value]) => [name, name === "weight" ? Number(value) : value]));
      act(() => ask("POST", `${path}/notes`, { name: one.name, ...values }), t("The notes are kept in {file}.", { file: `${one.name}.json` })).then((done) => { if (done) Object.assign(was, sent); }); // what was typed since is not kept yet
    };
    return el("form", { onsubmit: keep },
      field(t("Description"), box.description), field(t("Trigger words (activation text): what a click adds to the prompt"), box.trigger),
      el("div", { class: "card-pair" }, field(t("Preferred weight (0 = 1)"), box.weight), field(t("Family"), box.family)),
      field(t("Negative text: what a click adds to the negative prompt"), box.negative), field(t("Notes"), box.notes),
      el("div", { class: "buttons" }, el("button", { type: "submit", class: "primary" }, t("Keep the notes"))));
  }

  function named(drawer, one, path, act, close) {
    const name = el("input", { type: "text", value: one.name, maxlength: 120 });
    const go = async (what, told) => {
      const done = await act(() => ask("POST", `${path}/${what}`, { name: one.name, to: name.value }));
      if (!done) return;
      close();
      drawer.say("good", told(done));
    };
    return el("div", { class: "card-named" }, field(t("Name"), name), el("div", { class: "buttons" },
      el("button", { type: "button", onclick: () => go("rename", (done) => done.note) }, t("Rename")),
      el("button", { type: "button", onclick: () => go("duplicate", (done) => t("{name} is a copy of {other}.", { name: done.name, other: one.name })) }, t("Duplicate"))));
  }

  async function remove(drawer, one, path, act, close) {
    const gone = await act(() => ask("DELETE", `${path}/one`, undefined, { name: one.name }));
    if (!gone) return;
    close();
    drawer.say("good", t("{name} was moved to the trash.", { name: one.name }), t("Undo"), async () => {
      try {
        await ask("POST", `${path}/restore`, { id: gone.id });
        await drawer.load();
        drawer.say("good", t("{name} is back.", { name: one.name }));
      } catch (error) { drawer.say("bad", error.message); }
    });
  }

  // The model card inside the file: nothing of it is changed before this button is pressed.
  function written(one, path, act) {
    const box = {
      title: el("input", { type: "text", value: one.title, maxlength: 500 }), author: el("input", { type: "text", value: one.author, maxlength: 500 }),
      description: el("textarea", { rows: 3, value: one.description }), trigger_phrase: el("textarea", { rows: 2, value: one.trigger }), tags: el("input", { type: "text", value: one.card_tags }),
      picture: el("input", { type: "checkbox", checked: true }),
    };
    const go = (event) => {
      event.preventDefault();
      const values = Object.fromEntries(Object.entries(box).map(([name, part]) => [name, name === "picture" ? part.checked : part.value]));
      act(() => ask("POST", `${path}/write`, { name: one.name, ...values }), t("It is written into {file}; its tensors are what they were.", { file: one.file }));
    };
    return el("details", {}, el("summary", {}, t("Write into the file")), el("form", { onsubmit: go },
      el("p", { class: "small" }, t("Other programs read these texts from the file itself. Its tensors are copied bit by bit, so that its hash stays.")),
      field(t("Title"), box.title), field(t("Author"), box.author), field(t("Description"), box.description), field(t("Trigger words"), box.trigger_phrase), field(t("Tags, between commas"), box.tags),
      el("label", { class: "card-tick" }, box.picture, el("span", {}, t("The picture too"))),
      el("div", { class: "buttons" }, el("button", { type: "submit" }, t("Write into the file")))));
  }

  function tags(drawer, one) {
    if (!one.tags.length) return null;
    const button = ([tag, count]) => el("button", { type: "button", class: "chip-button", "aria-pressed": String(drawer.tagged(tag)), onclick: (event) => { drawer.tag(tag); event.currentTarget.setAttribute("aria-pressed", String(drawer.tagged(tag))); } }, `${tag} (${count})`);
    return el("details", { open: true }, el("summary", {}, t("Tags of its training; a click puts one into the prompt")), one.tags.map((group) => [el("div", { class: "small" }, `${group.folder} (${group.count})`), el("div", { class: "card-tags" }, group.tags.map(button))]));
  }

  function sections(one) {
    if (!one.sections.length) return null;
    return el("details", {}, el("summary", {}, t("Everything in the file's header")), one.sections.map((part) => el("details", { open: part.title === "Training settings" }, el("summary", {}, `${t(part.title)} (${part.rows.length})`), el("dl", { class: "card-rows" }, part.rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])))));
  }

  window.studio = Object.assign(window.studio || {}, { cardEditor: open });
})();
