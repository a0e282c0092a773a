// Cards of networks under the prompts: LoRA and its kin, hypernetworks, embeddings. A click puts one into the prompt or takes it out. Everything is asked of /studio/v1/networks.
(() => {
  "use strict";
  const { el, put, t, ask, url, dialog } = window.studio.parts;
  const LOOK = 1500, SAID = 30000;
  const KINDS = [["lora", "LoRA"], ["hypernet", "Hypernetworks"], ["embedding", "Embeddings"]];
  const SORTS = { name: (a, b) => a.name.localeCompare(b.name), date: (a, b) => b.changed - a.changed, path: (a, b) => `${a.folder}/${a.name}`.localeCompare(`${b.folder}/${b.name}`) };
  const drawers = [];
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const checkpoint = () => document.querySelector("#checkpoint input")?.value || "";
  const area = (tab, field) => document.querySelector(`#${tab}_${field} textarea`);

  // Where a card stands in a prompt: a network between < and > whatever its strength, an embedding as a word of its own.
  function place(card) {
    if (card.kind === "embedding") return new RegExp(`[ ]?(?:\\(${escaped(card.name)}:[\\d.]+\\)|(?<![\\p{L}\\p{N}_-])${escaped(card.name)}(?![\\p{L}\\p{N}_-]))`, "iu");
    const trigger = card.trigger ? `(?:[ ]?${escaped(card.trigger)})?` : "";
    return new RegExp(`[ ]?<${card.kind === "lora" ? "(?:lora|lyco)" : "hypernet"}:${escaped(card.name)}(?::[^>]*)?>${trigger}`, "iu");
  }

  function write(target, text) {
    target.value = text;
    target.dispatchEvent(new Event("input", { bubbles: true }));
  }
  const joined = (text, more) => [text.trimEnd(), more].filter(Boolean).join(" ");

  class Drawer {
    constructor(root) {
      this.root = root;
      this.tab = root.dataset.tab;
      this.kind = "lora";
      this.cards = { lora: [], hypernet: [], embedding: [] };
      this.words = ""; this.sort = "name"; this.folder = ""; this.field = "prompt"; this.asked = null; this.mark = "";
      this.build();
      drawers.push(this);
    }

    find(selector) { return this.root.querySelector(selector); }

    // Networks are read from the prompt only; an embedding goes where the person last wrote.
    target(card) { return area(this.tab, card.kind === "embedding" ? this.field : "prompt"); }

    on(card) { return place(card).test(this.target(card)?.value || ""); }

    say(kind, text, label, back) {
      const bar = this.find(".cards-say");
      bar.className = `cards-say note ${kind}`;
      put(bar, text, back ? [" ", el("button", { type: "button", class: "link", onclick: back }, label)] : null);
      bar.hidden = !text;
      clearTimeout(this.saying);
      if (kind === "good") this.saying = setTimeout(() => { bar.hidden = true; }, SAID);
    }

    async act(method, path, body, query) {
      try {
        const data = await ask(method, `networks/${this.kind}${path}`, body, query);
        await this.load();
        return data ?? {};
      } catch (error) {
        this.say("bad", error.message);
        return null;
      }
    }

    async load() {
      const chosen = checkpoint();
      const lists = await Promise.all(KINDS.map(([kind]) => ask("GET", `networks/${kind}`, undefined, { checkpoint: chosen })));
      this.asked = chosen;
      KINDS.forEach(([kind], i) => { this.cards[kind] = lists[i]; });
      this.draw();
    }

    shown() {
      const words = this.words.toLowerCase().split(/\s+/).filter(Boolean);
      const inside = (card) => !this.folder || card.folder === this.folder || card.folder.startsWith(`${this.folder}/`);
      return this.cards[this.kind].filter((card) => inside(card) && words.every((word) => `${card.folder}/${card.name} ${card.alias} ${card.method} ${card.family || ""} ${card.description} ${card.trigger}`.toLowerCase().includes(word))).sort(SORTS[this.sort]);
    }

    draw() {
      for (const [kind, label] of KINDS) {
        const tab = this.find(`[data-kind="${kind}"]`);
        put(tab, `${t(label)} (${this.cards[kind].length})`);
        tab.setAttribute("aria-selected", String(kind === this.kind));
        tab.tabIndex = kind === this.kind ? 0 : -1;
      }
      const folders = [...new Set(this.cards[this.kind].flatMap((card) => card.folder.split("/").map((_, i, all) => all.slice(0, i + 1).join("/"))))].filter(Boolean).sort();
      if (!folders.includes(this.folder)) this.folder = "";
      put(this.find(".cards-folders"), folders.length ? [["", t("All folders")], ...folders.map((name) => [name, name])].map(([name, label]) => el("button", { type: "button", class: "chip-button", "aria-pressed": String(name === this.folder), dataset: { focus: `folder ${name}` }, onclick: () => { this.folder = name; this.draw(); this.find(`[data-focus="${CSS.escape(`folder ${name}`)}"]`)?.focus(); } }, label)) : null);
      const cards = this.shown(), mark = JSON.stringify([this.kind, cards]);
      if (mark !== this.mark) {
        this.mark = mark;
        const host = this.find(".cards-grid"), before = host.contains(document.activeElement) ? document.activeElement.dataset.focus : "";
        put(host, cards.length ? cards.map((card) => this.face(card)) : el("p", { class: "cards-none" }, this.cards[this.kind].length ? t("Nothing here is called like that.") : t("There is nothing yet: train one, or put files into {folder}.", { folder: { lora: "models/Lora", hypernet: "models/hypernetworks", embedding: "embeddings" }[this.kind] })));
        if (before) host.querySelector(`[data-focus="${CSS.escape(before)}"]`)?.focus();
      }
      this.press();
    }

    face(card) {
      const reason = card.problem || (card.misfit ? t("It was made for {family}; the chosen checkpoint is {other}.", { family: card.family, other: card.misfit }) : "");
      const facts = [card.method, card.rank ? t("rank {rank}", { rank: card.rank }) : "", card.step ? t("{step} steps", { step: card.step }) : ""].filter(Boolean).join(" · ");
      const picture = card.picture ? el("img", { src: this.picture(card), alt: "", loading: "lazy", decoding: "async" }) : el("span", { class: "card-blank", "aria-hidden": "true" }, [...card.name].slice(0, 2).join(""));
      const face = el("button", { type: "button", class: "card-face", "aria-pressed": "false", "aria-disabled": reason ? "true" : null, title: [reason, card.description, card.trigger].filter(Boolean).join("\n"), "aria-label": [card.name, facts, card.family, reason].filter(Boolean).join(", "), dataset: { focus: card.name, card: card.name }, onclick: () => this.click(card, reason), onkeydown: (event) => this.keys(event, card) },
        picture, el("span", { class: "card-name" }, card.name), el("span", { class: "card-facts" }, card.family ? el("i", { class: "badge" }, card.family) : null, facts));
      const more = el("button", { type: "button", class: "card-more", title: t("Details of {name}", { name: card.name }), "aria-label": t("Details of {name}", { name: card.name }), dataset: { focus: `more ${card.name}` }, onclick: () => window.studio.cardEditor(this, card) }, "⋯");
      return el("div", { class: `card${reason ? " misfit" : ""}` }, face, more);
    }

    picture(card, size) { return url(`networks/${card.kind}/picture`, { name: card.name, v: card.picture, size }).href; }

    // Arrows walk over the cards; E opens the details.
    keys(event, card) {
      const faces = [...this.root.querySelectorAll(".card-face")], here = faces.indexOf(event.currentTarget);
      const across = Math.max(1, faces.filter((face) => face.getBoundingClientRect().top === faces[0].getBoundingClientRect().top).length);
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
      if (step !== undefined) faces[here + step]?.focus();
      else if (event.key.toLowerCase() === "e" && !event.ctrlKey && !event.metaKey && !event.altKey) window.studio.cardEditor(this, card);
      else return;
      event.preventDefault();
    }

    click(card, reason) {
      const target = this.target(card), negative = area(this.tab, "negative_prompt");
      if (!target) return;
      const there = this.on(card);
      if (reason && !there) return this.say("warn", `${card.name}: ${reason}`);
      if (there) {
        write(target, target.value.replace(place(card), "").trimStart());
        if (card.negative && negative !== target && negative?.value.includes(card.negative)) write(negative, negative.value.replace(card.negative, "").trim());
      } else {
        write(target, joined(target.value, joined(card.text, card.trigger)));
        if (card.negative && negative && negative !== target && !negative.value.includes(card.negative)) write(negative, joined(negative.value, card.negative));
      }
      this.press();
    }

    // A word among the tags of a training, into the prompt or out of it.
    tag(text) {
      const target = area(this.tab, "prompt"), parts = target.value.split(",").map((part) => part.trim()).filter(Boolean);
      write(target, (parts.includes(text) ? parts.filter((part) => part !== text) : [...parts, text]).join(", "));
    }
    tagged(text) { return (area(this.tab, "prompt")?.value || "").split(",").some((part) => part.trim() === text); }

    press() {
      const by = new Map(this.cards[this.kind].map((card) => [card.name, card]));
      for (const face of this.root.querySelectorAll(".card-face")) face.setAttribute("aria-pressed", String(this.on(by.get(face.dataset.card))));
    }

    async trashed() {
      const list = await this.act("GET", "/trash");
      if (!list) return;
      const back = async (entry, close) => {
        close();
        if (await this.act("POST", "/restore", { id: entry.id })) this.say("good", t("{name} is back.", { name: entry.name }));
      };
      dialog(t("Trash"), (close) => [list.length ? el("div", { class: "cards-list" }, list.map((entry) => el("div", {}, el("span", {}, entry.name), el("button", { type: "button", onclick: () => back(entry, close) }, t("Bring back"))))) : el("p", {}, t("The trash is empty.")), el("div", { class: "buttons" }, el("button", { type: "button", onclick: close }, t("Close")))]);
    }

    choose(kind) {
      this.kind = kind; this.folder = "";
      this.draw();
      this.find(`[data-kind="${kind}"]`).focus();
    }

    build() {
      const tabs = KINDS.map(([kind, label]) => el("button", { type: "button", role: "tab", id: `${this.tab}_cards_${kind}`, "aria-controls": `${this.tab}_cards_grid`, dataset: { kind }, onclick: () => this.choose(kind) }, t(label)));
      const walk = (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const names = KINDS.map(([kind]) => kind);
        this.choose(names[(names.indexOf(this.kind) + step + names.length) % names.length]);
      };
      const sort = el("select", { "aria-label": t("Sort"), onchange: (event) => { this.sort = event.target.value; this.draw(); } }, [["name", t("By name")], ["date", t("Newest first")], ["path", t("By path")]].map(([value, label]) => el("option", { value }, label)));
      const again = () => this.load().catch((error) => this.say("bad", error.message));
      put(this.root, el("details", { class: "cards-drawer", ontoggle: (event) => { if (event.target.open) again(); } },
        el("summary", {}, t("Networks: LoRA, hypernetworks, embeddings")),
        el("div", { class: "cards-bar" },
          el("div", { class: "cards-tabs", role: "tablist", "aria-label": t("Kind of network"), onkeydown: walk }, tabs),
          el("input", { type: "search", placeholder: t("Find by name, folder or description"), "aria-label": t("Find by name, folder or description"), oninput: (event) => { this.words = event.target.value; this.draw(); } }), sort,
          el("button", { type: "button", onclick: again }, t("Look again")), el("button", { type: "button", onclick: () => this.trashed() }, t("Trash"))),
        el("div", { class: "cards-folders" }), el("div", { class: "cards-say note", role: "status", hidden: true }),
        el("div", { class: "cards-grid", role: "tabpanel", id: `${this.tab}_cards_grid`, "aria-label": t("Cards") })));
    }

    // What is chosen elsewhere on the page changes what fits; a prompt may change without being typed.
    look() {
      if (!this.root.isConnected || !this.root.offsetParent || document.hidden || !this.find("details").open || this.asked === null) return;
      if (checkpoint() !== this.asked) { this.asked = checkpoint(); this.load().catch((error) => this.say("bad", error.message)); } else this.press();
    }
  }

  document.addEventListener("focusin", (event) => {
    const box = event.target.closest?.(".prompt");
    const drawer = box && drawers.find((each) => box.id.startsWith(`${each.tab}_`));
    if (drawer) drawer.field = box.id === `${drawer.tab}_negative_prompt` ? "negative_prompt" : "prompt";
  });

  function mount() {
    if (!window.studio.cardEditor) return;
    for (const root of document.querySelectorAll(".cards-room:not([data-ready])")) {
      root.dataset.ready = "1";
      new Drawer(root);
    }
  }
  new MutationObserver(mount).observe(document.documentElement, { childList: true, subtree: true });
  setInterval(() => drawers.forEach((drawer) => drawer.look()), LOOK);
})();
