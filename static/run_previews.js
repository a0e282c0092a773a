// Previews of a training: rows are steps, columns are prompts and seeds; large with arrows through time, two steps under one slider, and "use this one".
(() => {
  "use strict";
  const { el, put, t, url, dialog } = window.studio.parts;
  const FEW = 8;

  const source = (run, preview, size) => url(`runs/${encodeURIComponent(run.id)}/picture`, { path: preview.path, size, v: preview.step }).href;
  const planned = (run) => run.previews.filter((p) => p.column !== null && p.column !== undefined && p.column >= 0);
  const asked = (run) => run.previews.filter((p) => p.column === null || p.column === undefined || p.column < 0);
  const steps = (previews) => [...new Set(previews.map((p) => p.step))].sort((a, b) => a - b);
  const columns = (previews) => [...new Set(previews.map((p) => p.column))].sort((a, b) => a - b);

  function tile(screen, preview, label) {
    const { run } = screen;
    const about = t("Step {step}", { step: preview.step }) + (preview.prompt ? ` · ${preview.prompt}` : "");
    const picture = el("button", { type: "button", class: "picture", title: about, "aria-label": about, onclick: () => open(screen, preview) }, el("img", { src: source(run, preview, 256), alt: about, loading: "lazy" }));
    const best = run.best && run.best.step === preview.step;
    return el("figure", { class: best ? "best" : "", dataset: { step: preview.step, column: preview.column ?? "" } }, picture, label ? el("figcaption", {}, label, best ? el("b", { title: t("The best measurement so far") }, " ★") : null) : null, user(screen, preview));
  }

  function user(screen, preview) {
    if (!preview.weights) return el("span", { class: "small" }, preview.step === 0 ? t("untouched") : "");
    return el("button", { type: "button", class: "use", title: t("Use what was learned by step {step}", { step: preview.step }), onclick: () => screen.use(preview.step) }, t("Use this one"));
  }

  // What the host shows is drawn anew only when there is a new preview.
  function draw(host, screen) {
    const { run } = screen, mark = JSON.stringify([run.id, run.previews.length, run.previews[run.previews.length - 1]?.path, run.best?.step, screen.all]);
    if (host.dataset.mark === mark) return;
    host.dataset.mark = mark;
    const list = planned(run), extra = asked(run), rows = steps(list), wide = columns(list);
    if (!run.previews.length) return put(host, el("p", { class: "small" }, t("Previews appear here: same prompts, same seeds, step after step.")));
    const hidden = screen.all ? 0 : Math.max(0, rows.length - FEW - 1), shown = hidden ? [rows[0], ...rows.slice(-FEW)] : rows;
    const more = hidden || screen.all && rows.length > FEW + 1 ? el("button", { type: "button", class: "link", onclick: () => { screen.all = !screen.all; draw(host, screen); } }, screen.all ? t("Show fewer") : t("Show {count} more steps", { count: hidden })) : null;
    const head = el("div", { class: "run-head" }, el("h4", {}, t("Previews")), el("span", { class: "small" }, t("same prompts, same seeds; step 0 is the untouched start")), more, rows.length > 1 ? el("button", { type: "button", class: "swipe", onclick: () => swipe(screen, list) }, t("Compare two steps")) : null);
    const grid = wide.length < 2
      ? el("div", { class: "run-flow" }, shown.map((step) => tile(screen, list.find((p) => p.step === step), t("Step {step}", { step }))))
      : el("div", { class: "run-rows", style: `grid-template-columns: 112px repeat(${wide.length}, minmax(96px, 200px))` }, el("span"), wide.map((c) => el("span", { class: "small prompt-head", title: list.find((p) => p.column === c).prompt }, list.find((p) => p.column === c).prompt)),
        shown.map((step) => [el("div", { class: "row-step" }, el("b", {}, String(step)), run.best && run.best.step === step ? el("span", { title: t("The best measurement so far") }, "★") : null, user(screen, list.find((p) => p.step === step))),
          wide.map((c) => { const found = list.find((p) => p.step === step && p.column === c); return found ? el("figure", {}, el("button", { type: "button", class: "picture", "aria-label": t("Step {step}", { step }), onclick: () => open(screen, found) }, el("img", { src: source(run, found, 256), alt: found.prompt, loading: "lazy" }))) : el("span"); })]));
    put(host, head, grid, extra.length ? [el("h4", {}, t("Asked for")), el("div", { class: "run-flow" }, extra.map((p) => tile(screen, p, t("Step {step}", { step: p.step }))))] : null);
  }

  // One preview large; left and right go through time, up and down through prompts.
  function open(screen, preview) {
    let now = preview;
    const list = () => (planned(screen.run).includes(now) || planned(screen.run).some((p) => p.path === now.path) ? planned(screen.run) : asked(screen.run));
    const box = dialog("", (close) => { const inner = el("div", { class: "light" }); inner.close = close; return inner; });
    box.classList.add("lightbox");
    const inner = box.querySelector(".light");
    const go = (by, across = false) => {
      const all = list(), over = across ? columns(all) : steps(all), at = over.indexOf(across ? now.column : now.step) + by;
      const next = at >= 0 && at < over.length ? all.find((p) => (across ? p.column === over[at] && p.step === now.step : p.step === over[at] && p.column === now.column)) : null;
      if (next) { now = next; show(); }
    };
    function show() {
      put(inner, el("img", { src: source(screen.run, now), alt: now.prompt }),
        el("div", { class: "run-head" }, el("button", { type: "button", title: t("Earlier (←)"), "aria-label": t("Earlier (←)"), onclick: () => go(-1) }, "←"), el("b", {}, t("Step {step}", { step: now.step })), el("button", { type: "button", title: t("Later (→)"), "aria-label": t("Later (→)"), onclick: () => go(1) }, "→"),
          el("span", { class: "small" }, `${now.prompt} · ${t("seed {seed}", { seed: now.seed })}`), user(screen, now), el("button", { type: "button", class: "close", onclick: () => inner.close() }, t("Close"))));
    }
    box.addEventListener("keydown", (event) => {
      const act = { ArrowLeft: () => go(-1), ArrowRight: () => go(1), ArrowUp: () => go(-1, true), ArrowDown: () => go(1, true) }[event.key];
      if (act) { event.preventDefault(); act(); }
    });
    show();
  }

  // Two steps of one prompt on top of each other, the border between them under a slider.
  function swipe(screen, list) {
    const over = steps(list), wide = columns(list);
    let from = over[0], to = over[over.length - 1], column = wide[0], share = 50;
    const find = (step) => list.find((p) => p.step === step && p.column === column);
    dialog(t("Compare two steps"), (close) => {
      const place = el("div", { class: "swipe-place" }), say = el("div", { class: "run-head" });
      const slide = (value) => { share = Number(value); place.style.setProperty("--share", `${share}%`); };
      const pick = (value, change) => el("select", { onchange: (e) => { change(Number(e.target.value)); show(); } }, over.map((s) => el("option", { value: s, selected: s === value }, t("Step {step}", { step: s }))));
      function show() {
        const a = find(from), b = find(to);
        put(place, a ? el("img", { src: source(screen.run, a), alt: t("Step {step}", { step: from }) }) : null, b ? el("img", { class: "over", src: source(screen.run, b), alt: t("Step {step}", { step: to }) }) : null);
        put(say, pick(from, (v) => { from = v; }), el("input", { type: "range", min: 0, max: 100, value: share, "aria-label": t("Border between the two"), oninput: (e) => slide(e.target.value) }), pick(to, (v) => { to = v; }),
          wide.length > 1 ? el("select", { onchange: (e) => { column = Number(e.target.value); show(); } }, wide.map((c) => el("option", { value: c, selected: c === column }, list.find((p) => p.column === c).prompt))) : null);
        slide(share);
      }
      place.addEventListener("pointermove", (event) => { if (event.buttons || event.pointerType === "mouse") { const r = place.getBoundingClientRect(); slide(Math.max(0, Math.min(100, ((event.clientX - r.left) / r.width) * 100))); } });
      show();
      return [place, say, el("div", { class: "buttons" }, el("button", { type: "button", onclick: close }, t("Close")))];
    });
  }

  window.studio = Object.assign(window.studio || {}, { runPreviews: { draw } });
})();
