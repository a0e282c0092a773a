// Hotkeys as in A1111 and the dark switch. Nothing is done while an input method is composing.
(() => {
  "use strict";
  const DARK = "studio-dark";
  const visible = (selector) => [...document.querySelectorAll(selector)].find((e) => e.offsetParent !== null && !e.disabled);

  function apply(dark) {
    document.body.classList.toggle("dark", dark);
    const button = document.querySelector("#theme_switch");
    if (button) button.setAttribute("aria-pressed", String(dark));
  }

  function wanted() {
    const kept = localStorage.getItem(DARK);
    return kept === null ? matchMedia("(prefers-color-scheme: dark)").matches : kept === "1";
  }

  // The page asks the server whether anything happened, which costs nothing, and redraws only then.
  const LOOK = 700;
  let seen = "", server = "", missed = 0;
  function refresh() {
    document.querySelector("#pulse")?.click();
  }
  function lost(on) {
    let bar = document.querySelector("#lost");
    if (on && !bar) {
      bar = document.createElement("div");
      bar.id = "lost";
      bar.setAttribute("role", "alert");
      bar.textContent = navigator.language.startsWith("zh")
        ? "页面的服务器没有应答；训练不受影响。恢复后此页会自动重新加载。"
        : "The page's server does not answer; a training goes on without it. This page comes back by itself.";
      document.body.append(bar);
    } else if (!on && bar) {
      bar.remove();
    }
  }
  async function look() {
    if (document.hidden) return;
    try {
      const answer = await fetch(new URL("studio/v1/pulse", document.baseURI), { cache: "no-store" });
      if (answer.status === 401) return location.reload();  // the login ended: the server answers with its login page
      if (!answer.ok) throw new Error(String(answer.status));
      const now = await answer.json();
      missed = 0;
      lost(false);
      if (server && now.server !== server) return location.reload();
      server = now.server;
      if (now.pulse !== seen) { seen = now.pulse; refresh(); }
    } catch {
      lost(++missed > 3);
    }
  }
  setInterval(look, LOOK);
  // Whether a training can start follows the form. A redraw that begins while another one runs may miss the last edit, so one more follows it.
  let edited = 0;
  for (const kind of ["input", "change"]) {
    document.addEventListener(kind, (event) => {
      if (!event.target.closest?.("[role=tabpanel]")?.querySelector("#train_start")) return;
      clearTimeout(edited);
      edited = setTimeout(refresh, 1500);
    });
  }
  window.studio = Object.assign(window.studio || {}, { refresh });

  function begin() {
    apply(wanted());
    // The page's framework sets the class by the system's wish once it is up; the person's wish comes first.
    new MutationObserver(() => {
      if (document.body.classList.contains("dark") !== wanted()) apply(wanted());
    }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", begin);
  else begin();
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#theme_switch")) return;
    const dark = !document.body.classList.contains("dark");
    localStorage.setItem(DARK, dark ? "1" : "0");
    apply(dark);
  });

  // Attention of the selected words: (words:1.1), by 0.1 up or down.
  function attention(area, delta) {
    let { selectionStart: from, selectionEnd: to } = area;
    const text = area.value;
    if (from === to) {
      while (from > 0 && /[^\s,()[\]]/.test(text[from - 1])) from--;
      while (to < text.length && /[^\s,()[\]]/.test(text[to])) to++;
    }
    if (from === to) return;
    const before = text.slice(0, from), words = text.slice(from, to), after = text.slice(to);
    const weighted = /^:(\d+(?:\.\d+)?)\)/.exec(after);
    let result, head = before, tail = after, weight = 1 + delta;
    if (weighted && before.endsWith("(")) {
      weight = parseFloat(weighted[1]) + delta;
      head = before.slice(0, -1);
      tail = after.slice(weighted[0].length);
    }
    weight = Math.max(0, Math.round(weight * 100) / 100);
    result = weight === 1 ? words : `(${words}:${weight})`;
    area.value = head + result + tail;
    const start = head.length + (weight === 1 ? 0 : 1);
    area.setSelectionRange(start, start + words.length);
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }

  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const button = visible("#txt2img_generate, #img2img_generate");
      if (button) { event.preventDefault(); button.click(); }
    } else if (event.key === "Enter" && event.altKey) {
      const button = visible("#txt2img_skip, #img2img_skip");
      if (button) { event.preventDefault(); button.click(); }
    } else if (event.key === "Escape") {
      const button = visible("#txt2img_interrupt, #img2img_interrupt");
      if (button && !document.querySelector(".preview, .fullscreen")) button.click();
    } else if ((event.key === "ArrowUp" || event.key === "ArrowDown") && (event.ctrlKey || event.metaKey)) {
      const area = event.target;
      if (area.tagName === "TEXTAREA" && area.closest(".prompt")) {
        event.preventDefault();
        attention(area, event.key === "ArrowUp" ? 0.1 : -0.1);
      }
    }
  });
})();
