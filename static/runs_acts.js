// What is done with one kept run: going on, naming, recipe cards, sheets, grids, averages, the trash.
(() => {
  "use strict";
  const { el, put, t, ask, url, dialog } = window.studio.parts;
  const room = () => window.studio.runsRoom;
  const field = (label, control) => el("label", { class: "field" }, el("span", {}, label), control);

  // A small form: fields, a button that does it, and the way back; a refusal is told inside.
  function form(title, fields, label, act) {
    dialog(title, (close) => {
      const wrong = el("div", {});
      const go = async (event) => {
        event.preventDefault();
        const sent = event.currentTarget;
        sent.inert = true; // nothing is typed into a form that closes in a moment
        try { await act(); close(); await room().load(); } catch (error) { put(wrong, el("div", { class: "note bad", role: "alert" }, error.message)); } finally { sent.inert = false; }
      };
      return el("form", { onsubmit: go }, fields, wrong, el("div", { class: "buttons" }, el("button", { type: "submit", class: "primary" }, label), el("button", { type: "button", onclick: close }, t("Cancel"))));
    });
  }

  const post = (row, path, body) => ask("POST", room().here(row.id, path), body);
  const numbers = (text) => text.split(/[\s,;，]+/).filter(Boolean).map(Number);

  const acts = {
    async clone(row) {
      const values = await room().act("GET", room().here(row.id, "values"));
      if (values) window.studio.cloneRun({ ...values, method: row.method });
    },

    async resume(row) {
      if (await room().act("POST", room().here(row.id, "resume"), {})) room().say("good", t("{name} goes on from where it was.", { name: row.name }));
    },

    extend(row) {
      const steps = el("input", { type: "number", min: row.step + 1, value: Math.max(row.end, row.step) + 500, required: true });
      form(t("Extend {name}", { name: row.name }), [el("p", {}, t("It has taken {step} steps. It goes on from its newest checkpoint, with the same settings.", { step: row.step })), field(t("Go on to step"), steps)], t("Extend"), async () => {
        await post(row, "extend", { steps: Number(steps.value) });
        room().say("good", t("{name} goes on from where it was.", { name: row.name }));
      });
    },

    rename(row) {
      const title = el("input", { type: "text", maxlength: 120, value: row.title || "", placeholder: row.embedding }), note = el("textarea", { rows: 4, value: row.note || "" });
      form(t("Rename {name}", { name: row.name }), [field(t("Name"), title), field(t("Note"), note)], t("Keep"), async () => {
        await post(row, "rename", { title: title.value });
        await post(row, "note", { text: note.value });
      });
    },

    async trash(row) {
      const done = await room().act("POST", room().here(row.id, "trash"), {});
      if (done) room().say("good", t("{name} was moved to the trash.", { name: row.name }), t("Undo"), () => acts.restore(done.trashed));
    },

    async restore(name) {
      const back = await room().act("POST", room().here(name, "restore"), {});
      if (back) { room().say("good", t("{name} is back.", { name: back.id })); room().chosen = [back.id]; room().draw(); }
    },

    trashed() {
      dialog(t("Trash"), (close) => [el("div", { class: "runs-list" }, room().trash.map((name) => el("div", { class: "runs-item" }, el("span", {}, name), el("button", { type: "button", onclick: () => { close(); acts.restore(name); } }, t("Bring back"))))), el("div", { class: "buttons" }, el("button", { type: "button", onclick: close }, t("Close")))]);
    },

    // A card comes as a file of the browser; a refusal is told in the bar.
    async card(row, kind) {
      try {
        const answer = await fetch(url(room().here(row.id, "card"), { kind }), { headers: { "X-Studio-Page": "1" } });
        if (!answer.ok) throw new Error((await answer.json()).detail);
        const link = el("a", { href: URL.createObjectURL(await answer.blob()), download: `${row.id}.recipe.${kind}` });
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      } catch (error) { room().say("bad", error.message); }
    },

    async bring(file) {
      const data = new FormData();
      data.append("file", file);
      const card = await room().act("POST", "runs/import", data);
      if (!card) return;
      dialog(t("Recipe card {name}", { name: card.name || file.name }), (close) => {
        const use = () => { close(); window.studio.cloneRun({ ...card.values, method: card.method }); };
        const ready = Boolean(window.studio.cloneRun);
        return [card.notes.length ? card.notes.map((text) => el("div", { class: "note warn" }, text)) : el("div", { class: "note good" }, t("Everything it needs is here.")),
          el("details", {}, el("summary", {}, t("Settings of the card")), el("table", { class: "plain" }, el("tbody", {}, Object.entries({ method: card.method, ...card.values }).map(([name, value]) => el("tr", {}, el("td", {}, name), el("td", {}, String(value))))))),
          el("div", { class: "buttons" }, el("button", { type: "button", class: "primary", disabled: !ready, title: ready ? "" : t("The Train tab is not ready yet."), onclick: use }, t("Fill the Train form")), el("button", { type: "button", onclick: close }, t("Close")))];
      });
    },

    grid(row) {
      const prompts = el("textarea", { rows: 3, placeholder: t("Empty takes the prompts of the previews") }), most = el("input", { type: "number", min: 1, max: 50, value: 6 }), strengths = el("input", { type: "text", placeholder: "0.8, 1, 1.2" });
      form(t("Grid of {name}", { name: row.name }), [field(t("Prompts, one in each line, with [name] for the word that is taught"), prompts), field(t("Steps at most"), most), field(t("Strengths"), strengths)], t("Paint"), async () => {
        await post(row, "grid", { prompts: prompts.value, most: Number(most.value), strengths: numbers(strengths.value) });
        room().say("good", t("It is being made; it will appear below the run."));
      });
    },

    async sheet(row, format) {
      if (await room().act("POST", room().here(row.id, "sheet"), { format })) room().say("good", t("It is being made; it will appear below the run."));
    },

    average(row) {
      const count = el("input", { type: "number", min: 2, max: 1000, value: 5 }), name = el("input", { type: "text", placeholder: t("the old name with -avg") });
      form(t("Average the last weights of {name}", { name: row.name }), [field(t("How many"), count), field(t("Name of the result"), name)], t("Average"), async () => {
        await post(row, "average", { count: Number(count.value), name: name.value.trim() });
        room().say("good", t("The average is being made; it will lie beside what was trained."));
      });
    },

    // Sheets, films and grids that were made of a run; looked for again as long as it is shown.
    async made(host, id) {
      if (!host.isConnected) return;
      try {
        const made = host.offsetParent !== null || !host.dataset.seen ? await ask("GET", `runs/${encodeURIComponent(id)}/made`) : null;
        const now = JSON.stringify(made);
        if (made && host.dataset.seen !== now) {
          host.dataset.seen = now;
          put(host, made.length ? el("h4", {}, t("Made of this run")) : null, el("div", { class: "runs-flow" }, made.map((path) => el("a", { href: room().picture(id, path), target: "_blank", rel: "noopener", title: path }, el("img", { src: room().picture(id, path, 256), alt: path, loading: "lazy" })))));
        }
      } catch { return; /* the run was moved away; the table says so */ }
      setTimeout(() => acts.made(host, id), 3000);
    },
  };

  window.studio = Object.assign(window.studio || {}, { runsActs: acts });
})();
