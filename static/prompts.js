// What helps with prompts: names of networks after "<", a picture dropped anywhere is read, and Generate forever.
(() => {
  "use strict";
  const zh = navigator.language.startsWith("zh");
  let box = null, area = null, names = [], chosen = 0, from = 0;

  const known = () => JSON.parse(document.querySelector("#known_names [data-names]")?.dataset.names || "[]");
  function close() {
    box?.remove();
    box = null;
  }
  function draw() {
    if (!box) {
      box = document.createElement("div");
      box.className = "suggest";
      box.setAttribute("role", "listbox");
      document.body.append(box);
    }
    const place = area.getBoundingClientRect();
    box.style.left = `${place.left + scrollX + 8}px`;
    box.style.top = `${place.bottom + scrollY}px`;
    box.replaceChildren(...names.map((name, i) => {
      const row = document.createElement("div");
      row.textContent = name;
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", String(i === chosen));
      row.addEventListener("mousedown", (event) => { event.preventDefault(); take(i); });
      return row;
    }));
  }
  function take(i) {
    const text = `<${names[i]}:1>`, end = area.selectionStart;
    area.setRangeText(text, from, end, "end");
    area.dispatchEvent(new Event("input", { bubbles: true }));
    close();
  }
  document.addEventListener("input", (event) => {
    if (event.target.tagName !== "TEXTAREA" || !event.target.closest(".prompt")) return;
    area = event.target;
    const typed = /<([^<>:]*:?[^<>:]*)$/.exec(area.value.slice(0, area.selectionStart));
    if (!typed) return close();
    from = area.selectionStart - typed[0].length;
    const wanted = typed[1].toLowerCase();
    names = known().filter((name) => name.toLowerCase().includes(wanted)).slice(0, 12);
    chosen = 0;
    return names.length ? draw() : close();
  });
  document.addEventListener("keydown", (event) => {
    if (!box || event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : -1) + names.length) % names.length;
      draw();
    } else if (event.key === "Enter" || event.key === "Tab") take(chosen);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);
  document.addEventListener("focusout", close);

  // A picture dropped on anything that takes none itself is read in PNG Info.
  const takes = (target) => target.closest && target.closest(".mask-canvas, input[type=file], .upload-container, [data-testid=file], [id$=_drop], #pnginfo_picture, [class*=upload], [class*=dropzone]");
  const brings = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!brings(event) || takes(event.target)) return document.body.classList.remove("dropping");
    event.preventDefault();
    document.body.dataset.drop = zh ? "放开以读取图片信息" : "Let go to read what is written in this picture";
    return document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  document.addEventListener("drop", async (event) => {
    document.body.classList.remove("dropping");
    if (!brings(event) || takes(event.target)) return;
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (!file) return;
    const tab = [...document.querySelectorAll("button[role=tab]")].find((b) => b.textContent.trim() === "PNG Info");
    tab?.click();
    for (let i = 0; i < 40; i++) {
      const input = document.querySelector("#pnginfo_picture input[type=file]");
      if (input) {
        const given = new DataTransfer();
        given.items.add(file);
        input.files = given.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
        return;
      }
      await new Promise((done) => setTimeout(done, 50));
    }
  });

  // Right click on Generate: forever, until it is clicked again or Escape.
  let forever = null;
  function stopForever() {
    clearInterval(forever?.timer);
    forever?.button.classList.remove("forever");
    forever = null;
  }
  document.addEventListener("contextmenu", (event) => {
    const button = event.target.closest("#txt2img_generate, #img2img_generate");
    if (!button) return;
    event.preventDefault();
    if (forever) return stopForever();
    const busy = document.getElementById(button.id.replace("generate", "interrupt"));
    button.classList.add("forever");
    button.click();
    let waited = 0;
    forever = { button, timer: setInterval(() => { waited = busy.disabled ? waited + 1 : 0; if (waited > 2) { waited = 0; button.click(); } }, 500) };
    return undefined;
  });
  addEventListener("keydown", (event) => { if (event.key === "Escape" && forever) stopForever(); });
})();
