// The chart of a training: what the probe measured in front, the raw loss grey behind it, the best so far marked; values under the pointer.
(() => {
  "use strict";
  const { el, t } = window.studio.parts;
  const W = 760, H = 280, LEFT = 54, RIGHT = 50, TOP = 16, BOTTOM = 30;
  const BANDS = [["composition", 5], ["shape", 6], ["detail", 7]];
  const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  const percent = (value) => `${value > 0 ? "+" : ""}${value.toFixed(Math.abs(value) < 10 ? 1 : 0)} %`;

  function ticks(low, high, most) {
    const raw = (high - low) / most, size = [1, 2, 5, 10].map((m) => m * 10 ** Math.floor(Math.log10(raw))).find((s) => s >= raw) || 1, found = [];
    for (let at = Math.ceil(low / size) * size; at <= high + size * 1e-6; at += size) found.push(Math.abs(at) < size / 1e3 ? 0 : at);
    return found;
  }

  const points = (list) => list.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" ");
  const spread = (values, share) => { const s = [...values].sort((a, b) => a - b); return [s[Math.floor(s.length * share)], s[s.length - 1 - Math.floor(s.length * share)]]; };

  // The lines of a mode: [css class, name, rows of (step, value)].
  function lines(run, mode) {
    const of = (at) => run.probe.filter((row) => row[at] !== null && row[at] !== undefined).map((row) => [row[0], row[at]]);
    if (mode === "bands") return BANDS.map(([name, at]) => [name, t(name), of(at)]);
    const all = [["train", t("training images"), of(9), of(1)], ["held", t("held-out images"), of(10), of(4)]];
    if (run.probe.some((row) => row[8])) all.push(["drift", t("drift of other prompts"), of(8)]);
    return all.filter(([, , rows]) => rows.length);
  }

  function vertical(shown, run, mode) {
    const values = shown.flatMap(([, , rows, dots]) => [...rows, ...(dots || [])].map((row) => row[1]));
    if (mode === "learning") for (const row of run.probe) if (row[2] !== null && row[3] !== null) values.push(row[2], row[3]);
    let low = Math.min(0, ...values), high = Math.max(0, ...values);
    const pad = Math.max((high - low) * 0.08, 0.5);
    return [low - pad, high + pad];
  }

  function chart(run, mode) {
    const probing = mode !== "raw" && run.probe.length > 0, curve = run.curve || [];
    const svg = el("svg", { class: "run-chart", viewBox: `0 0 ${W} ${H}`, role: "img" });
    if (!probing && !curve.length) {
      svg.append(el("text", { class: "empty", x: W / 2, y: H / 2, "text-anchor": "middle" }, t("The curve begins with the first step.")));
      return svg;
    }
    const first = Math.min(curve.length ? curve[0][0] : Infinity, run.probe.length ? run.probe[0][0] : Infinity);
    const done = Math.max(curve.length ? curve[curve.length - 1][0] : 0, run.probe.length ? run.probe[run.probe.length - 1][0] : 0);
    const last = Math.max(done, Math.min(run.end || done, first + Math.max(20, Math.round((done - first) * 1.15))));
    const x = scale(first, Math.max(last, first + 1), LEFT, W - RIGHT), shown = probing ? lines(run, mode) : [];
    const losses = curve.map((row) => row[1]).filter((v) => v !== null && isFinite(v));
    const [low, high] = losses.length ? spread(losses, 0.02) : [0, 1], margin = (high - low) * 0.08 || 0.05;
    const raw = scale(low - margin, high + margin, H - BOTTOM, TOP), clip = (v) => Math.max(TOP, Math.min(H - BOTTOM, v));
    const [bottom, top] = probing ? vertical(shown, run, mode) : [low - margin, high + margin], y = scale(bottom, top, H - BOTTOM, TOP);
    for (const at of ticks(bottom, top, 6)) {
      svg.append(el("line", { class: at === 0 && probing ? "grid zero" : "grid", x1: LEFT, x2: W - RIGHT, y1: y(at), y2: y(at) }), el("text", { x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, probing ? percent(at) : at.toFixed(3)));
    }
    for (const at of ticks(first, last, 9)) if (Number.isInteger(at)) svg.append(el("text", { x: x(at), y: H - 10, "text-anchor": "middle" }, String(at)));
    for (const step of new Set((run.previews || []).map((p) => p.step))) if (step >= first) svg.append(el("line", { class: "moment", x1: x(step), x2: x(step), y1: H - BOTTOM, y2: H - BOTTOM - 6 }));
    if (curve.length) svg.append(el("polyline", { class: probing ? "raw behind" : "raw", points: points(curve.filter((r) => r[1] !== null).map((r) => [x(r[0]), clip(raw(r[1]))])) }));
    if (!probing) svg.append(el("polyline", { class: "smooth", points: points(curve.filter((r) => r[2] !== null).map((r) => [x(r[0]), clip(raw(r[2]))])) }));
    if (probing && mode === "learning") {
      const banded = run.probe.filter((row) => row[2] !== null && row[3] !== null);
      if (banded.length > 1) svg.append(el("polygon", { class: "band", points: points([...banded.map((r) => [x(r[0]), y(r[3])]), ...banded.reverse().map((r) => [x(r[0]), y(r[2])])]) }));
    }
    for (const [kind, , rows, dots] of shown) {
      svg.append(el("polyline", { class: `probe ${kind}`, points: points(rows.map((r) => [x(r[0]), y(r[1])])) }));
      if (rows.length < 40) for (const r of dots || rows) svg.append(el("circle", { class: `probe ${kind}`, cx: x(r[0]), cy: y(r[1]), r: 2.4 }));
    }
    if (probing && mode === "learning" && run.best) mark(svg, run, x, y);
    legend(svg, probing ? [...shown.map(([kind, name]) => [`probe ${kind}`, name]), ...(curve.length ? [["raw behind", t("raw loss")]] : [])] : [["raw", t("raw loss")], ["smooth", t("smoothed")]]);
    svg.setAttribute("aria-label", about(run, shown));
    pointer(svg, { run, shown, x, first, last, y, probing });
    return svg;
  }

  function mark(svg, run, x, y) {
    const row = run.probe.find((r) => r[0] === run.best.step);
    if (!row) return;
    const value = row[10] ?? row[9], end = x(row[0]) > W - RIGHT - 60;
    svg.append(el("circle", { class: "best", cx: x(row[0]), cy: y(value), r: 5 }), el("text", { class: "best", x: x(row[0]) + (end ? -8 : 8), y: y(value) + 14, "text-anchor": end ? "end" : "start" }, t("best: step {step}", { step: row[0] })));
  }

  function legend(svg, entries) {
    let at = LEFT + 8;
    for (const [kind, name] of entries) {
      svg.append(el("line", { class: kind, x1: at, x2: at + 18, y1: TOP - 4, y2: TOP - 4 }), el("text", { x: at + 23, y: TOP }, name));
      at += 38 + [...name].reduce((wide, c) => wide + (c.charCodeAt(0) > 255 ? 11 : 6), 0);
    }
  }

  function about(run, shown) {
    const newest = run.probe[run.probe.length - 1];
    return newest && shown.length ? t("Step {step}: {change} against the start", { step: newest[0], change: percent(newest[1]) }) : t("Training loss over steps");
  }

  // A line and the values of the step under the pointer.
  function pointer(svg, { run, shown, x, first, last, y, probing }) {
    const line = el("line", { class: "pointer", y1: TOP, y2: H - BOTTOM, visibility: "hidden" }), said = el("text", { class: "said", y: TOP + 14, visibility: "hidden" });
    const hide = () => { line.setAttribute("visibility", "hidden"); said.setAttribute("visibility", "hidden"); };
    svg.append(line, said);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * W;
      const step = first + ((at - LEFT) / (W - RIGHT - LEFT)) * (last - first);
      const rows = probing && run.probe.length ? run.probe : run.curve;
      if (!rows || !rows.length || at < LEFT || at > W - RIGHT) return hide();
      const near = rows.reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a)), loss = (run.curve || []).reduce((a, b) => (a && Math.abs(a[0] - near[0]) <= Math.abs(b[0] - near[0]) ? a : b), null);
      const values = probing ? shown.map(([, name, list, dots]) => { const found = (dots || list).find((r) => r[0] === near[0]); return found ? `${name} ${percent(found[1])}` : ""; }) : [`${t("smoothed")} ${near[2] === null ? "–" : near[2].toFixed(4)}`];
      if (loss && loss[1] !== null) values.push(`${t("raw loss")} ${loss[1].toFixed(4)}`);
      said.textContent = [t("Step {step}", { step: near[0] }), ...values.filter(Boolean)].join(" · ");
      const end = x(near[0]) > W / 2;
      for (const [name, value] of Object.entries({ x1: x(near[0]), x2: x(near[0]), visibility: "visible" })) line.setAttribute(name, value);
      for (const [name, value] of Object.entries({ x: x(near[0]) + (end ? -6 : 6), "text-anchor": end ? "end" : "start", visibility: "visible" })) said.setAttribute(name, value);
    });
    svg.addEventListener("pointerleave", hide);
  }

  // The same numbers for those who would rather read them.
  function table(run) {
    const heads = [t("Step"), t("training images"), t("held-out images"), t("composition"), t("shape"), t("detail"), t("drift of other prompts")];
    const cell = (value) => el("td", { class: "num" }, value === null || value === undefined ? "–" : percent(value));
    return el("table", { class: "plain" }, el("thead", {}, el("tr", {}, heads.map((h) => el("th", {}, h)))), el("tbody", {}, run.probe.map((r) => el("tr", {}, el("td", { class: "num" }, String(r[0])), [1, 4, 5, 6, 7, 8].map((i) => cell(r[i]))))));
  }

  window.studio = Object.assign(window.studio || {}, { runChart: { chart, table, percent, scale, ticks } });
})();
