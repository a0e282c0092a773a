// Two to six runs beside each other: probe curves in one chart, what was set differently, and pictures of the same prompt under one slider of steps.
(() => {
  "use strict";
  const { el, put, t, ask, duration, sentence } = window.studio.parts, { percent, scale, ticks } = window.studio.runChart;
  const W = 760, H = 280, LEFT = 56, RIGHT = 14, TOP = 14, BOTTOM = 30;
  const DASHES = ["", "7 3", "2 3", "10 3 2 3", "4 4", "1 4"];

  // The line of a run: what the probe measured, or the smoothed loss where no run was measured.
  const measured = (runs) => runs.some((run) => run.probe.length);
  const lineOf = (run, probing) => (probing ? run.probe.map((row) => [row[0], row[1]]) : run.curve.map((row) => [row[0], row[2] ?? row[1]])).filter((point) => point[1] !== null && isFinite(point[1]));
  const shown = (value, probing) => (value === null || value === undefined ? "–" : probing ? percent(value) : value.toFixed(4));

  function nearest(line, step) {
    let best = null;
    for (const point of line) if (!best || Math.abs(point[0] - step) < Math.abs(best[0] - step)) best = point;
    return best;
  }

  function chart(runs) {
    const probing = measured(runs), lines = runs.map((run) => lineOf(run, probing)), all = lines.flat();
    const svg = el("svg", { class: "runs-chart", viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: 0, "aria-label": t("Curves of the runs; left and right read the values") });
    if (!all.length) { svg.append(el("text", { x: W / 2, y: H / 2, "text-anchor": "middle" }, t("Nothing was measured yet."))); return el("div", {}, svg); }
    const steps = all.map((p) => p[0]), values = all.map((p) => p[1]), first = Math.min(...steps), last = Math.max(...steps, first + 1);
    const low = Math.min(...values, ...(probing ? [0] : [])), high = Math.max(...values, ...(probing ? [0] : [])), pad = (high - low) * 0.08 || 0.05;
    const x = scale(first, last, LEFT, W - RIGHT), y = scale(low - pad, high + pad, H - BOTTOM, TOP);
    for (const at of ticks(low - pad, high + pad, 6)) svg.append(el("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(at), y2: y(at) }), el("text", { x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, probing ? `${Number(at.toPrecision(3))} %` : at.toPrecision(3)));
    for (const at of ticks(first, last, 9)) if (Number.isInteger(at)) svg.append(el("text", { x: x(at), y: H - 10, "text-anchor": "middle" }, String(at)));
    lines.forEach((line, i) => {
      if (line.length > 1) svg.append(el("polyline", { class: `line run-${i}`, "stroke-dasharray": DASHES[i] || null, points: line.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join(" ") }));
      for (const p of line.length < 40 ? line : []) svg.append(el("circle", { class: `dot run-${i}`, cx: x(p[0]), cy: y(p[1]), r: 2.4 }));
      const best = runs[i].best && nearest(line, runs[i].best.step);
      if (best) svg.append(el("circle", { class: `best run-${i}`, cx: x(best[0]), cy: y(best[1]), r: 5.5 }));
    });
    const pointer = el("line", { class: "pointer", y1: TOP, y2: H - BOTTOM, visibility: "hidden" }), legend = el("div", { class: "runs-legend" });
    svg.append(pointer);
    let at = null;
    const read = (step) => {
      at = step === null ? null : Math.max(first, Math.min(last, Math.round(step)));
      pointer.setAttribute("visibility", at === null ? "hidden" : "visible");
      if (at !== null) { pointer.setAttribute("x1", x(at)); pointer.setAttribute("x2", x(at)); }
      put(legend, el("span", { class: "small", "aria-live": "polite" }, at === null ? (probing ? t("Loss on a fixed test against the untouched start; lower is better") : t("Smoothed loss")) : t("Step {step}", { step: at })),
        runs.map((run, i) => { const point = nearest(lines[i], at ?? last); return el("span", { class: "entry" }, el("svg", { viewBox: "0 0 26 8", width: 26, height: 8 }, el("line", { class: `line run-${i}`, "stroke-dasharray": DASHES[i] || null, x1: 0, x2: 26, y1: 4, y2: 4 })), run.label, " ", el("b", {}, point ? shown(point[1], probing) : "–")); }));
    };
    svg.addEventListener("pointermove", (event) => { const box = svg.getBoundingClientRect(); read(first + ((((event.clientX - box.left) / box.width) * W - LEFT) / (W - RIGHT - LEFT)) * (last - first)); });
    svg.addEventListener("pointerleave", () => read(null));
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) { event.preventDefault(); read((at ?? last) + by * Math.max(1, Math.round((last - first) / 50))); }
    });
    read(null);
    return el("div", {}, svg, legend);
  }

  const value = (v) => (v === null || v === undefined || v === "" ? "–" : v === true ? t("yes") : v === false ? t("no") : String(v));

  function settings(found) {
    const heads = el("tr", {}, el("th", { scope: "col" }, t("Setting")), found.runs.map((run, i) => el("th", { scope: "col" }, el("span", { class: `swatch run-${i}` }), run.label)));
    const outcome = [[t("State"), (run) => window.studio.runTitled(run.state)], [t("Steps"), (run) => `${run.step} / ${run.end}`], [t("Time"), (run) => duration(run.seconds)], [t("Diagnosis"), (run) => sentence(run.verdict)]];
    return [el("h4", {}, t("What differs")),
      el("table", { class: "plain runs-settings" }, el("thead", {}, heads), el("tbody", {}, outcome.map(([label, of]) => el("tr", {}, el("td", {}, label), found.runs.map((run) => el("td", {}, of(run) || "–")))),
        found.settings.map((row) => el("tr", { dataset: { setting: row.name } }, el("td", {}, t(row.label)), row.values.map((v) => el("td", {}, value(v))))))),
      found.settings.length ? null : el("p", { class: "small" }, t("Every setting is the same."))];
  }

  // Pictures of one prompt: of each run the one whose step is nearest to the slider's, and not later where there is one.
  function pictures(found, room) {
    if (!found.pictures.length) return [el("h4", {}, t("Same prompt")), el("p", { class: "small" }, t("No two of these runs painted the same prompt."))];
    let row = found.pictures[0];
    const place = el("div", { class: "runs-side" }), label = el("b", {}), slider = el("input", { type: "range", "aria-label": t("Step") });
    const pick = el("select", { "aria-label": t("Prompt"), onchange: (event) => { row = found.pictures[Number(event.target.value)]; open(); } }, found.pictures.map((p, i) => el("option", { value: i }, `${p.prompt} · ${t("seed {seed}", { seed: p.seed ?? "?" })}`)));
    let steps = [];
    function draw() {
      const step = steps[Number(slider.value)];
      label.textContent = t("Step {step}", { step });
      put(place, found.runs.map((run, i) => {
        const known = row.runs[i], upTo = known.filter((p) => p.step <= step), one = upTo.length ? upTo[upTo.length - 1] : known[0];
        return el("figure", {}, one ? el("img", { src: room.picture(run.id, one.path, 1280, one.step), alt: `${run.label} · ${t("Step {step}", { step: one.step })}` }) : el("div", { class: "blank" }, t("not painted")), el("figcaption", {}, el("span", { class: `swatch run-${i}` }), run.label, one ? ` · ${t("Step {step}", { step: one.step })}` : ""));
      }));
    }
    function open() {
      steps = [...new Set(row.runs.flat().map((p) => p.step))].sort((a, b) => a - b);
      Object.assign(slider, { min: 0, max: steps.length - 1, step: 1 });
      slider.value = String(steps.length - 1);
      draw();
    }
    slider.addEventListener("input", draw);
    open();
    return [el("h4", {}, t("Same prompt")), el("div", { class: "runs-slide" }, found.pictures.length > 1 ? pick : el("span", { class: "small" }, row.prompt), slider, label), place];
  }

  async function open(host, ids, room) {
    put(host, el("p", { class: "small" }, t("Loading …")));
    try {
      const found = await ask("GET", `runs/compare?${new URLSearchParams(ids.map((id) => ["ids", id]))}`);
      if (!host.isConnected) return;
      put(host, el("div", { class: "runs-compare" }, chart(found.runs), settings(found), pictures(found, room)));
    } catch (error) {
      put(host, el("div", { class: "note bad", role: "alert" }, error.message));
    }
  }

  window.studio = Object.assign(window.studio || {}, { runsCompare: { open } });
})();
