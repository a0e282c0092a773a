// The canvas of img2img: a picture, and over it a mask or coloured strokes; zoom, pan, undo, and A1111's keys.
(() => {
  "use strict";
  const zh = navigator.language.startsWith("zh");
  const words = (en, cn) => (zh ? cn : en);
  const ICONS = {
    brush: "M14 3l3 3-8 8-4 1 1-4z", eraser: "M4 13l7-8 6 5-6 7H7z", undo: "M8 5L4 9l4 4M4 9h7a4 4 0 010 8H9", redo: "M12 5l4 4-4 4M16 9H9a4 4 0 000 8h2",
    invert: "M10 3a7 7 0 000 14zM10 3a7 7 0 010 14", clear: "M5 5l10 10M15 5L5 15", fit: "M4 8V4h4M12 4h4v4M16 12v4h-4M8 16H4v-4", open: "M3 15V5h5l2 2h7v8z", mask: "M3 4h14v12H3zM6 13l3-4 2 2 2-3 2 5", full: "M3 3h14v14H3z",
  };
  const icon = (name) => `<svg viewBox="0 0 20 20" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.6" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`;

  class MaskCanvas {
    constructor(root) {
      this.root = root;
      this.name = root.dataset.canvas;
      this.mode = "mask"; // mask | sketch | plain
      this.tool = "brush";
      this.size = 32;
      this.hardness = 1;
      this.colour = "#ff3b30";
      this.view = { scale: 1, x: 0, y: 0 };
      this.saving = null;
      this.build();
      this.listen();
    }

    build() {
      const button = (act, en, cn, key = "") => `<button type="button" data-act="${act}" title="${words(en, cn)}${key ? ` (${key})` : ""}" aria-label="${words(en, cn)}">${icon(act)}</button>`;
      this.root.innerHTML = `
        <div class="canvas-bar" role="toolbar">
          ${button("open", "Open a picture", "打开图片")}
          <span class="canvas-draw">
          ${button("brush", "Brush", "画笔", "B")}${button("eraser", "Eraser", "橡皮", "E")}
          <label>${words("Size", "大小")} <input type="range" data-set="size" min="1" max="400" value="32"></label>
          <label>${words("Hardness", "硬度")} <input type="range" data-set="hardness" min="0" max="100" value="100"></label>
          <input type="color" data-set="colour" value="${this.colour}" aria-label="${words("Colour", "颜色")}">
          ${button("undo", "Undo", "撤销", "Ctrl+Z")}${button("redo", "Redo", "重做", "Ctrl+Y")}
          ${button("invert", "Invert the mask", "反转蒙版")}${button("clear", "Clear", "清除")}
          ${button("mask", "Open a mask", "打开蒙版")}
          </span>
          ${button("fit", "Fit", "适合窗口", "R")}${button("full", "Full screen", "全屏", "S")}
          <span class="canvas-info"></span>
        </div>
        <div class="canvas-port" tabindex="0">
          <div class="canvas-stage"><canvas class="base"></canvas><canvas class="ink"></canvas></div>
          <div class="canvas-cursor"></div>
          <p class="canvas-hint">${words("Drop a picture here, paste one, or press the folder.", "把图片拖到这里、粘贴，或点文件夹图标。")}</p>
        </div>
        <input type="file" accept="image/*" data-file="open" hidden><input type="file" accept="image/*" data-file="mask" hidden>`;
      const find = (selector) => this.root.querySelector(selector);
      this.port = find(".canvas-port");
      this.stage = find(".canvas-stage");
      this.base = find("canvas.base");
      this.top = find("canvas.ink");
      this.ink = new window.studio.Ink(this.top);
      this.info = find(".canvas-info");
      this.ring = find(".canvas-cursor");
      this.pick("brush");
      this.setMode(this.root.dataset.mode || "mask");
    }

    // ---- what the page reads and writes
    field(kind) {
      return document.querySelector(`#${this.name}_${kind} textarea, #${this.name}_${kind} input`);
    }

    put(kind, value) {
      const field = this.field(kind);
      if (!field || field.value === value) return;
      field.value = value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }

    async upload(blob, name) {
      const form = new FormData();
      form.append("files", blob, name);
      const answer = await fetch(new URL("gradio_api/upload", document.baseURI), { method: "POST", body: form });
      if (!answer.ok) throw new Error(`${answer.status}`);
      return (await answer.json())[0];
    }

    setMode(mode) {
      this.mode = mode;
      this.root.classList.toggle("plain", mode === "plain");
      this.root.classList.toggle("sketch", mode === "sketch" || mode === "paint");
      this.top.style.opacity = mode === "mask" ? 0.62 : 1;
      if (mode === "plain") this.top.style.opacity = 0;
    }

    async open(file) {
      if ("own" in this.root.dataset) return this.openMask(file);
      try {
        const path = await this.upload(file, file.name || "picture.png");
        await this.load(path);
        this.put("picture", path);
      } catch (error) {
        this.say(words("This picture could not be opened.", "无法打开这张图片。"));
      }
    }

    async load(path) {
      if (!path) return this.empty();
      if (path === this.path || path === this.loading) return undefined;
      this.loading = path;
      const image = new Image();
      image.src = this.address(path);
      await image.decode();
      if (this.loading !== path) return undefined;
      this.loading = "";
      this.path = path;
      this.base.width = image.naturalWidth;
      this.base.height = image.naturalHeight;
      this.ink.resize(image.naturalWidth, image.naturalHeight);
      this.base.getContext("2d").drawImage(image, 0, 0);
      this.root.classList.add("filled");
      await this.reopen(path);
      this.fit();
      this.say();
      return undefined;
    }

    address(path) {
      return new URL(path.includes("://") ? path : `gradio_api/file=${path}`, document.baseURI);
    }

    // The picture that was there when the page was left comes with its strokes, once; any other begins without.
    async reopen(path) {
      const strokes = this.reopened ? "" : window.studio.forms.strokes(this.name, path);
      this.reopened = true;
      try {
        if (strokes) await this.ink.reopen(await (await fetch(this.address(strokes))).blob());
        this.put("mask", strokes);
      } catch (error) {
        this.put("mask", "");
      }
    }

    // Picture and mode that were kept from before; their fields may get their values after the canvas is there.
    follow(tries = 20) {
      const path = this.field("picture")?.value, mode = JSON.parse(this.root.dataset.modes || "{}")[document.querySelector(`#${this.name}_mode input:checked`)?.value];
      if (mode && mode !== this.mode) this.setMode(mode);
      if (path && !this.path && !this.loading) this.load(path);
      if (tries) setTimeout(() => this.follow(tries - 1), 100);
    }

    empty() {
      this.path = this.loading = "";
      this.base.width = 0;
      this.ink.resize(0, 0);
      this.root.classList.remove("filled");
    }

    // What was painted changed by something else than a stroke.
    alter(change) {
      if (!this.path) return;
      if (this.ink[change]() !== false) this.changed();
    }

    async openMask(file) {
      if (!this.path) return;
      try {
        await this.ink.read(file);
        this.changed();
      } catch (error) {
        this.say(words("This mask could not be opened.", "无法打开这个蒙版。"));
      }
    }

    // ---- painting
    place(event) {
      const box = this.top.getBoundingClientRect();
      return [((event.clientX - box.left) * this.top.width) / box.width, ((event.clientY - box.top) * this.top.height) / box.height];
    }

    down(event) {
      if (!this.path || this.mode === "plain" || (event.button !== 0 && event.button !== 2)) return;
      event.preventDefault();
      this.port.focus({ preventScroll: true });
      this.port.setPointerCapture(event.pointerId);
      if (this.panning) return;
      const erasing = this.tool === "eraser" || event.button === 2;
      this.stroking = true;
      this.ink.begin(this.place(event), { size: this.size, hardness: this.hardness, colour: this.mode === "mask" ? "#ffffff" : this.colour, erasing });
    }

    move(event) {
      this.pointer = event;
      this.showRing(event);
      if (this.panning) {
        if (this.last) this.pan(event.clientX - this.last[0], event.clientY - this.last[1]);
        this.last = [event.clientX, event.clientY];
        return;
      }
      this.last = null;
      if (!this.stroking) return;
      const more = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      for (const e of more.length ? more : [event]) this.ink.points.push(this.place(e));
      this.ink.draw();
    }

    up() {
      if (!this.stroking) return;
      this.stroking = false;
      this.changed();
    }

    showRing(event) {
      const box = this.port.getBoundingClientRect();
      const width = (this.size * this.top.getBoundingClientRect().width) / (this.top.width || 1);
      this.ring.style.cssText = `left:${event.clientX - box.left}px;top:${event.clientY - box.top}px;width:${width}px;height:${width}px`;
    }

    // ---- what was painted, as a file of the server's
    changed() {
      if (this.saving) clearTimeout(this.saving.timer);
      const saving = { done: null, timer: 0 };
      saving.done = new Promise((resolve) => {
        saving.timer = setTimeout(async () => {
          await this.save();
          if (this.saving === saving) this.saving = null;
          resolve();
        }, 150);
      });
      this.saving = saving;
    }

    // A canvas of its own page part (data-own) is read by that part, and asks nothing of the server.
    async save() {
      if ("own" in this.root.dataset) return;
      try {
        this.put("mask", this.ink.painted ? await this.upload(await this.ink.file(), "mask.png") : "");
      } catch (error) {
        this.say(words("The mask could not be sent; paint another stroke to try again.", "蒙版未能发送；再画一笔即可重试。"));
      }
    }

    // ---- seeing
    fit() {
      if (!this.top.width) return;
      const width = this.port.clientWidth, height = this.port.clientHeight;
      const scale = Math.min(width / this.top.width, height / this.top.height);
      this.view = { scale, x: (width - this.top.width * scale) / 2, y: (height - this.top.height * scale) / 2 };
      this.show();
    }

    show() {
      const { scale, x, y } = this.view;
      this.stage.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
      this.base.style.imageRendering = this.top.style.imageRendering = scale > 3 ? "pixelated" : "auto";
      this.say();
    }

    zoom(factor, event) {
      const box = this.port.getBoundingClientRect();
      const px = event ? event.clientX - box.left : box.width / 2, py = event ? event.clientY - box.top : box.height / 2;
      const scale = Math.min(40, Math.max(0.05, this.view.scale * factor));
      const ratio = scale / this.view.scale;
      this.view = { scale, x: px - (px - this.view.x) * ratio, y: py - (py - this.view.y) * ratio };
      this.show();
    }

    pan(dx, dy) {
      this.view.x += dx;
      this.view.y += dy;
      this.show();
    }

    say(text) {
      this.info.textContent = text || (this.path ? `${this.top.width} × ${this.top.height} · ${Math.round(this.view.scale * 100)} %` : "");
    }

    pick(tool) {
      this.tool = tool;
      for (const each of ["brush", "eraser"]) this.root.querySelector(`[data-act=${each}]`).setAttribute("aria-pressed", String(each === tool));
    }

    grow(by) {
      this.size = Math.min(400, Math.max(1, Math.round(this.size * by) + (by > 1 ? 1 : 0)));
      this.root.querySelector("[data-set=size]").value = this.size;
      if (this.pointer) this.showRing(this.pointer);
    }

    act(name) {
      const acts = {
        brush: () => this.pick("brush"), eraser: () => this.pick("eraser"), undo: () => this.alter("undo"), redo: () => this.alter("redo"),
        invert: () => this.alter("invert"), clear: () => this.alter("clear"), fit: () => this.fit(), full: () => this.full(),
        open: () => this.root.querySelector("[data-file=open]").click(), mask: () => this.root.querySelector("[data-file=mask]").click(),
      };
      acts[name]();
    }

    full() {
      this.root.classList.toggle("full");
      this.fit();
    }

    key(event) {
      const control = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
      if (control && key === "z") this.act(event.shiftKey ? "redo" : "undo");
      else if (control && key === "y") this.act("redo");
      else if (control || event.altKey) return;
      else if (key === "b" || key === "e") this.pick(key === "b" ? "brush" : "eraser");
      else if (key === "q" || key === "[") this.grow(0.87);
      else if (key === "w" || key === "]") this.grow(1.15);
      else if (key === "r") this.fit();
      else if (key === "s") this.full();
      else if (key === "f") this.panning = true;
      else if (key === "escape" && this.root.classList.contains("full")) this.full();
      else return;
      event.preventDefault();
      event.stopPropagation();
    }

    listen() {
      this.root.addEventListener("click", (event) => {
        const act = event.target.closest("[data-act]");
        if (act) this.act(act.dataset.act);
      });
      this.root.addEventListener("input", (event) => {
        const name = event.target.dataset.set;
        if (name === "size") this.size = +event.target.value;
        if (name === "hardness") this.hardness = +event.target.value / 100;
        if (name === "colour") this.colour = event.target.value;
      });
      this.root.addEventListener("change", (event) => {
        const [file] = event.target.files || [];
        if (!file) return;
        if (event.target.dataset.file === "open") this.open(file);
        else this.openMask(file);
        event.target.value = "";
      });
      const port = this.port;
      port.addEventListener("pointerdown", (e) => this.down(e));
      port.addEventListener("pointermove", (e) => this.move(e));
      port.addEventListener("pointerup", () => this.up());
      port.addEventListener("pointercancel", () => this.up());
      port.addEventListener("contextmenu", (e) => e.preventDefault());
      this.root.addEventListener("mouseenter", () => { this.over = true; });
      this.root.addEventListener("mouseleave", () => { this.over = false; });
      port.addEventListener("wheel", (event) => {
        if (event.ctrlKey || event.metaKey) this.grow(event.deltaY < 0 ? 1.15 : 0.87);
        else if (event.altKey || event.shiftKey) this.zoom((event.deltaY || event.deltaX) < 0 ? 1.15 : 0.87, event);
        else return;
        event.preventDefault();
      }, { passive: false });
      port.addEventListener("dragover", (e) => e.preventDefault());
      port.addEventListener("drop", (event) => {
        const [file] = event.dataTransfer.files;
        if (!file) return;
        event.preventDefault();
        event.stopPropagation();
        this.open(file);
      });
      new ResizeObserver(() => this.fit()).observe(port);
    }
  }

  const canvases = new Map();
  function mount() {
    for (const root of document.querySelectorAll("[data-canvas]:not([data-ready])")) {
      root.dataset.ready = "1";
      const canvas = new MaskCanvas(root);
      canvases.set(root.dataset.canvas, canvas);
      if (!("own" in root.dataset)) canvas.follow();
    }
  }
  new MutationObserver(mount).observe(document.documentElement, { childList: true, subtree: true });

  const writing = (element) => element.closest && element.closest("textarea, input[type=text], input[type=number], [contenteditable=true]");
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229 || writing(event.target)) return;
    for (const canvas of canvases.values()) if (canvas.over || canvas.root.contains(document.activeElement)) canvas.key(event);
  }, true);
  document.addEventListener("keyup", (event) => {
    if (event.key.toLowerCase() === "f") for (const canvas of canvases.values()) { canvas.panning = false; canvas.last = null; }
  }, true);
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((f) => f.type.startsWith("image/"));
    const canvas = [...canvases.values()].find((c) => c.root.offsetParent !== null);
    if (file && canvas && !writing(event.target)) canvas.open(file);
  });
  // A mask that is still on its way is waited for before Generate.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[id$=_generate]");
    const canvas = button && canvases.get(button.id.replace(/_generate$/, ""));
    if (!canvas || !canvas.saving) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    await canvas.saving.done;
    setTimeout(() => button.click(), 120);
  }, true);

  window.studio = Object.assign(window.studio || {}, {
    canvas: (name) => canvases.get(name),
    show: (name, path) => { const c = canvases.get(name); if (c) c.load(path); return []; },
    mode: (name, mode) => { const c = canvases.get(name); if (c) c.setMode(mode); return []; },
  });
})();
