// How pictures come into the data set room: new sets, folders, drops of files and of whole folders; and what was done before (History).
(() => {
  "use strict";
  const room = window.studio.room, { el, t } = room;
  const AT_ONCE = 40; // files of one request
  const places = new WeakMap(); // file -> where it lay in a folder that was dropped: two files of one name stay apart

  function dialog(title, ...parts) {
    const box = room.find(".room-dialog");
    box.replaceChildren(el("h3", {}, title), ...parts);
    box.showModal();
    return box;
  }

  // A question with one line of text; the server's reason stays in the dialog until it is answered or closed.
  function question(title, label, send, ...more) {
    const field = el("input", { type: "text", "aria-label": label }), reason = el("p", { class: "note bad", hidden: true });
    const go = async () => {
      try {
        await send(field.value, box);
        box.close();
      } catch (error) {
        reason.textContent = error.message;
        reason.hidden = false;
      }
    };
    field.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing) { event.preventDefault(); go(); } });
    const box = dialog(title, el("label", { class: "field" }, label, field), ...more, reason,
      el("div", { class: "buttons" }, el("button", { type: "button", class: "primary", onclick: go }, t("OK")), el("button", { type: "button", onclick: () => box.close() }, t("Cancel"))));
    field.focus();
  }

  const check = (name, label) => el("label", { class: "check" }, el("input", { type: "checkbox", name }), label);
  const checked = (box, name) => box.querySelector(`[name=${name}]`).checked;

  const openers = (room.openers = {
    create() {
      question(t("New data set"), t("Name"), async (name) => room.open((await room.ask("POST", "datasets", { name })).id));
    },

    folder() {
      question(t("Open a folder"), t("Path of a folder with pictures, on the machine the studio runs on"), async (path) => room.open((await room.ask("POST", "datasets/open", { path })).id),
        el("p", { class: "small" }, t("The pictures stay where they are and are never changed; captions are written beside them.")));
    },

    bring() {
      question(t("Import into this data set"), t("Path of a folder, a .zip, a kohya folder tree or a kohya .toml"), async (path, box) => {
        room.seen.add((await room.ask("POST", room.here("import"), { path, recursive: checked(box, "recursive"), regularisation: checked(box, "regularisation") })).job);
        room.look();
      }, check("recursive", t("with sub-folders")), check("regularisation", t("with regularisation pictures")), el("p", { class: "small" }, t("Pictures are copied; the source is only read.")));
    },

    async take(files) {
      if (!files.length) return;
      if (!room.set) {
        const name = `${t("pictures")}-${new Date().toISOString().slice(0, 16).replace(/[-:T]/g, "")}`;
        try {
          await room.open((await room.ask("POST", "datasets", { name })).id);
        } catch (error) {
          return room.say("bad", error.message);
        }
      }
      const into = room.here("upload");
      for (let at = 0; at < files.length; at += AT_ONCE) {
        room.say("busy", t("Sending {done} of {count} files …", { done: at, count: files.length }));
        const form = new FormData();
        for (const file of files.slice(at, at + AT_ONCE)) form.append("files", file, places.get(file) || file.webkitRelativePath || file.name);
        try {
          room.seen.add((await room.ask("POST", into, form)).job);
        } catch (error) {
          return room.say("bad", error.message);
        }
      }
      room.say("good", t("{count} files are taken in.", { count: files.length }));
      await room.look();
    },

    async history() {
      const found = await room.act("GET", room.here("history"));
      if (!found) return;
      const { edits } = found;
      const when = (at) => new Date(at * 1000).toLocaleString();
      const back = async (at) => { box.close(); const step = await room.act("POST", room.here("restore"), { at }); if (step) room.say("good", t("Captions are as they were; this can be undone too.")); };
      const rows = edits.map((edit) => el("tr", { class: edit.state }, el("td", {}, when(edit.at)), el("td", {}, edit.name), el("td", { class: "num" }, t("changes: {count}", { count: edit.count })),
        el("td", {}, edit.state === "undone" ? t("undone") : el("button", { type: "button", onclick: () => back(edit.at) }, t("Captions as of then")))));
      const box = dialog(t("What was done in this data set"), edits.length ? el("div", { class: "scroll" }, el("table", { class: "plain" }, el("tbody", {}, rows))) : el("p", {}, t("Nothing was changed yet.")),
        el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => box.close() }, t("Close"))));
    },

    dialog,
  });

  // ---- dropping files, and folders with all that is in them
  async function filesOf(entry) {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      places.set(file, entry.fullPath.replace(/^\/+/, ""));
      return [file];
    }
    const reader = entry.createReader(), found = [];
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return found;
      for (const each of some) found.push(...await filesOf(each));
    }
  }

  const inRoom = (event) => room.root && room.root.offsetParent && event.dataTransfer && [...event.dataTransfer.types].includes("Files") && !event.target.closest(".mask-canvas, [data-testid=file-upload]");
  let over;
  window.addEventListener("dragover", (event) => {
    if (!inRoom(event)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    room.root.classList.add("dropping-here");
    clearTimeout(over);
    over = setTimeout(() => room.root.classList.remove("dropping-here"), 200);
  }, true);
  window.addEventListener("drop", async (event) => {
    if (!inRoom(event)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
    const plain = [...event.dataTransfer.files];
    const files = entries.length ? (await Promise.all(entries.map(filesOf))).flat() : plain;
    openers.take(files.filter((file) => !file.name.startsWith(".")));
  }, true);
})();
