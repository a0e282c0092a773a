// The screen of one training: verdict, chart, previews, figures, log, and what can be asked of it. The same for the running one and for one of the past.
(() => {
  "use strict";
  const { el, put, t, ask, duration, sentence, dialog } = window.studio.parts;
  const LOOK = 1000, STAYS = 20000;
  const OVER = ["done", "stopped", "failed", "interrupted"], LIVELY = ["running", "paused", "stopping"];
  const screens = new Set();

  // A screen in `host`; `address` says where its facts come from, `live` that the newest training is meant.
  class Screen {
    constructor(host, address, live) {
      Object.assign(this, { host, address, live, run: null, job: null, mode: "learning", all: false, marks: {} });
      this.places = Object.fromEntries(["verdict", "said", "state", "asks", "chart", "figures", "previews", "ways", "log"].map((name) => [name, el("div", { class: `at-${name}` })]));
      put(host, el("div", { class: "run-screen" }, Object.values(this.places)));
      screens.add(this);
      this.look();
    }

    get state() { return this.job ? this.job.state : this.run ? this.run.state : ""; }

    async look() {
      if (this.looking) return;
      this.looking = true;
      try {
        const data = await ask("GET", this.address);
        this.job = this.live ? data.job : data.job_state || null;
        this.run = this.live ? data.run : data;
        this.before = data.before || 0;
        this.measuring = data.probe_seconds;
        this.draw();
      } catch (error) {
        if (error.status === 404) put(this.places.state, note("bad", error.message));
      } finally {
        this.looking = false;
      }
    }

    // Each place is drawn anew only when what it shows has changed, so that nothing flickers and focus stays.
    place(name, facts, draw) {
      const mark = JSON.stringify(facts);
      if (this.marks[name] === mark) return;
      this.marks[name] = mark;
      put(this.places[name], draw());
    }

    draw() {
      const { run, job } = this;
      this.host.dataset.state = this.state;
      if (run) this.host.dataset.run = run.id;
      this.place("verdict", [run && run.verdict, this.state], () => verdict(this));
      this.place("state", [this.state, run && [run.step, run.end, run.speed, run.eta, run.error, run.usage, run.in_use, run.best, run.log.filter((l) => l.kind === "warning").slice(-3)], job && job.error, this.before], () => status(this));
      if (this.live) this.place("asks", [this.state, run && run.id], () => buttons(this));
      this.place("chart", run && [run.id, run.curve.length, run.curve[run.curve.length - 1], run.probe.length, run.best, run.end, this.mode], () => chart(this));
      this.place("figures", run && [run.metric, run.prompt, run.config.steps, this.measuring], () => figures(run, this.measuring));
      if (run) window.studio.runPreviews.draw(this.places.previews, this);
      else put(this.places.previews);
      this.place("ways", run && [run.id, run.previews.length, run.best && run.best.step, this.state], () => ways(this));
      this.place("log", run && run.log, () => log(run));
      if (this.live) announce(this);
    }

    // What an act brought about has a place of its own and stays for a while, whatever is looked at in between.
    say(kind, text, ...more) {
      const said = note(kind, text, ...more);
      put(this.places.said, said);
      setTimeout(() => said.remove(), STAYS);
    }

    async act(method, path, body) {
      try {
        const data = await ask(method, path, body);
        await this.look();
        return data || {};
      } catch (error) {
        this.say("bad", error.message);
        return null;
      }
    }

    asks(kind, data) { return this.act("POST", `jobs/${this.job.id}/asks/${kind}`, data || {}); }

    here(path) { return `runs/${encodeURIComponent(this.run.id)}/${path}`; }

    // The weights of a step go onto the shelf; what was there can be had back.
    async use(step) {
      const done = await this.act("POST", this.here("use"), { step });
      if (!done) return;
      const back = done.undo ? el("button", { type: "button", class: "link", onclick: async () => { if (await this.act("POST", this.here("restore_used"), { undo: done.undo })) this.say("good", t("{name} is as it was before.", { name: done.name })); } }, t("Undo")) : null;
      this.say("good", done.best ? t("In prompts, {name} now means step {step} (best).", done) : t("In prompts, {name} now means step {step}.", done), " ", back);
    }
  }

  const note = (kind, text, ...more) => el("div", { class: `note ${kind}`, role: "status" }, text, ...more);

  function verdict({ run, job, state }) {
    const said = run && run.verdict;
    if (!said) return !run && !job ? note("", t("Curve and previews of the training will appear here.")) : null;
    return el("div", { class: `verdict ${said.state}`, role: "status", "aria-live": "polite" }, sentence(said), !OVER.includes(state) ? el("span", { class: "small" }, " ", t("measured at step {step}", { step: said.step ?? "" })) : null);
  }

  function status(screen) {
    const { run, job, state, before } = screen;
    const name = run ? run.embedding : job ? job.name : "", parts = [];
    if (state === "queued") parts.push(note("busy", before ? t("Training of {name} waits for its turn; {count} before it.", { name, count: before }) : t("Training of {name} waits for its turn.", { name })));
    else if (state === "interrupted" && job) parts.push(note("warn", t("The worker died; this goes on from where it was as soon as a new one is up.")));
    else if (state === "failed") parts.push(note("bad", t("Failed: {reason}", { reason: (job && job.error) || (run && run.error) || "?" })));
    else if (OVER.includes(state) && run) parts.push(note("good", ended(run, state), run.seconds ? el("span", { class: "small" }, ` · ${duration(run.seconds)}`) : null), chosen(screen));
    else if (run || job) parts.push(progress({ run, state, name }));
    const warnings = run ? run.log.filter((line) => line.kind === "warning").slice(-3) : [];
    return [...parts, warnings.map((line) => note("warn", line.text))];
  }

  // How a training ended, and how what it learned is used; what is written in a prompt can be copied.
  function ended(run, state) {
    const values = { steps: run.step };
    if (run.changes.filter((change) => ["discard", "go_on"].includes(change.ask)).at(-1)?.ask === "discard") return t("Stopped at step {steps} without saving.", values);
    const places = run.usage.values, pieces = t(run.usage.text).split(/(\{\w+\})/);
    return [state === "stopped" ? t("Stopped at step {steps} and saved:", values) : t("Finished at step {steps} and saved:", values), " ", pieces.map((piece) => { const name = piece.slice(1, -1); return piece.startsWith("{") && name in places ? copyable(places[name]) : piece; })];
  }

  // Which step the plain name stands for after the run, and a click to have another: the best first, the last beside it.
  function chosen(screen) {
    const { run } = screen, now = run.in_use;
    if (!now) return null;
    const best = run.best && run.best.path ? run.best.step : null, last = run.saved.some((copy) => copy.step === run.step) ? run.step : null;
    const use = (which, step, label, first) => el("button", { type: "button", class: `use-${which} ${first ? "primary" : ""}`, disabled: now.step === step, title: now.step === step ? t("In use") : "", onclick: () => screen.use(which) }, label);
    return el("div", { class: "note in-use", role: "status" }, el("span", {}, sentence(now)), el("div", { class: "buttons" },
      best === null ? null : use("best", best, best === last ? t("Use step {step} (best and last)", { step: best }) : t("Use step {step} (best)", { step: best }), true),
      last === null || last === best ? null : use("last", last, t("Use step {step} (last)", { step: last }), false)));
  }

  // A text that a click copies, or chooses where the browser lets nobody copy.
  function copyable(text) {
    const button = el("button", { type: "button", class: "link copy", title: t("Copy") }, text);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        put(button, text, " ", el("span", { class: "small", role: "status" }, t("Copied")));
        setTimeout(() => put(button, text), 1500);
      } catch { getSelection().selectAllChildren(button); }
    });
    return button;
  }

  function progress({ run, state, name }) {
    if (!run || !run.end) return note("busy", t("Training of {name}: loading the model …", { name }));
    const text = [t("Training of {name}", { name }), t("Step {step} of {total}", { step: run.step, total: run.end })];
    if (state === "paused") text.push(run.whole ? t("paused; the card is free") : t("paused; the card is free, and prompts use what is learned so far"));
    else if (state === "stopping") text.push(t("stopping after this step, and keeping what is there"));
    else if (run.speed) text.push(t("{rate} steps per second", { rate: run.speed.toPrecision(2) }), run.eta ? t("{time} left", { time: duration(run.eta) }) : "");
    const first = run.facts.first_step || 0, share = run.end > first ? Math.min(100, (100 * (run.step - first)) / (run.end - first)) : 0;
    return note(state === "paused" ? "warn" : "busy", text.filter(Boolean).join(" · "), el("div", { class: "bar", role: "progressbar", "aria-valuenow": Math.round(share), "aria-valuemin": 0, "aria-valuemax": 100 }, el("i", { style: `width:${share.toFixed(1)}%` })));
  }

  // What can be asked; a button that cannot be pressed says why.
  function buttons(screen) {
    const { state, job } = screen, lively = LIVELY.includes(state), paused = state === "paused", waiting = state === "queued";
    const why = lively ? "" : t("No training is running.");
    const make = (label, kind, enabled, act, more = {}) => el("button", { type: "button", class: `ask-${kind} ${more.class || ""}`, disabled: !enabled, title: enabled ? more.title || "" : why, onclick: act }, label);
    return el("div", { class: "buttons" },
      make(paused ? t("Go on") : t("Pause"), "pause", lively && state !== "stopping", () => screen.asks(paused ? "resume" : "pause"), { title: t("The training rests, and goes on exactly where it was.") }),
      make(t("Stop and keep"), "stop", (lively && state !== "stopping") || waiting, () => screen.asks("stop"), { class: "stop", title: t("Finish this step, save what was learned, and end.") }),
      make(t("Save now"), "save", lively, () => screen.asks("save"), { title: t("Save what is learned so far, so that it can be used.") }),
      make(t("Sample now…"), "sample", lively, () => sample(screen)),
      make(t("Change…"), "change", lively, () => change(screen)),
      make(t("Stop without saving…"), "discard", lively, () => discard(screen, job)), bell());
  }

  function sample(screen) {
    dialog(t("Paint with what is learned so far"), (close) => {
      const prompt = el("textarea", { rows: 2, placeholder: t("Empty paints the usual previews") }), seed = el("input", { type: "number", min: 0, placeholder: t("as the previews") });
      const wrong = el("div", {});
      const go = async () => {
        try {
          await ask("POST", `jobs/${screen.job.id}/asks/sample`, { ...(prompt.value.trim() ? { prompt: prompt.value.trim() } : {}), ...(seed.value !== "" ? { seed: Number(seed.value) } : {}) });
          close();
          screen.look();
        } catch (error) { put(wrong, note("bad", error.message)); }
      };
      return [field(t("Prompt, with [name] for the word that is taught"), prompt), field(t("Seed"), seed), wrong, el("div", { class: "buttons" }, el("button", { type: "button", class: "primary", onclick: go }, t("Paint")), el("button", { type: "button", onclick: close }, t("Cancel")))];
    });
  }

  const field = (label, control) => el("label", { class: "field" }, el("span", {}, label), control);

  // Changes of a running training; only what was touched is sent, and it is written into the run's journal.
  function change(screen) {
    const { run } = screen, now = { ...run.config };
    for (const one of run.changes) if (one.ask === "change") Object.assign(now, one.data);
    dialog(t("Change the running training"), (close) => {
      const knobs = { learn_rate: el("input", { type: "text", value: now.learn_rate }), steps: el("input", { type: "number", value: now.steps, min: run.step }), preview_every: el("input", { type: "number", value: now.preview_every, min: 0 }), save_every: el("input", { type: "number", value: now.save_every, min: 0 }), preview_prompt: el("textarea", { rows: 3, value: now.preview_prompt || "" }) };
      const labels = { learn_rate: t("Learning rate"), steps: t("Max steps"), preview_every: t("Save an image every N steps"), save_every: t("Save a copy every N steps"), preview_prompt: t("Prompts of the previews, one in each line") };
      const wrong = el("div", {});
      const go = async () => {
        const values = {};
        for (const [name, input] of Object.entries(knobs)) { const value = input.type === "number" ? Number(input.value) : input.value; if (value !== (now[name] ?? "")) values[name] = value; }
        if (!Object.keys(values).length) return close();
        try { await ask("POST", `jobs/${screen.job.id}/asks/change`, values); close(); screen.look(); } catch (error) { put(wrong, note("bad", error.message)); }
      };
      return [Object.entries(knobs).map(([name, input]) => field(labels[name], input)), el("p", { class: "small" }, t("What you change is kept in the run's journal, so that it is the same when the run is taken up again.")), wrong,
        el("div", { class: "buttons" }, el("button", { type: "button", class: "primary", onclick: go }, t("Change")), el("button", { type: "button", onclick: close }, t("Cancel")))];
    });
  }

  function discard(screen) {
    dialog(t("Stop without saving?"), (close) => [el("p", {}, t("What was there before this training stays as it was. The previews and checkpoints of this one stay in Runs, so it can still be taken up again there.")),
      el("div", { class: "buttons" }, el("button", { type: "button", class: "stop", onclick: async () => { close(); await screen.asks("discard"); } }, t("Stop without saving")), el("button", { type: "button", onclick: close }, t("Go on training")))]);
  }

  function chart(screen) {
    const { run } = screen, modes = [["learning", t("Learning")], ["bands", t("Noise bands")], ["raw", t("Raw loss")]];
    const svg = window.studio.runChart.chart(run || { probe: [], curve: [] }, screen.mode);
    const pick = modes.map(([name, label]) => el("button", { type: "button", "aria-pressed": String(screen.mode === name), onclick: () => { screen.mode = name; screen.draw(); } }, label));
    const explain = { learning: t("Loss on a fixed set of images and noise, in % against step 0; lower is better. Dots are measurements, lines are smoothed (EMA); grey: training loss."), bands: t("The same by noise: composition from the noisiest steps, detail from the cleanest."), raw: t("The loss of each step; it says little, because every step meets another noise.") }[screen.mode];
    return [el("div", { class: "run-head" }, pick, el("span", { class: "small" }, explain)), svg, run && run.probe.length ? el("details", {}, el("summary", { class: "small" }, t("As a table")), window.studio.runChart.table(run)) : null];
  }

  function figures(run, measuring) {
    const m = run.metric || {};
    if (m.step === undefined) return null;
    const digits = (value, places) => (value === null || value === undefined ? "–" : value.toFixed(places));
    const boxes = [[t("Loss"), digits(m.loss, 4)], [t("Smoothed"), digits(m.smoothed, 4)], [t("Learning rate"), m.learn_rate === undefined || m.learn_rate === null ? "–" : Number(m.learn_rate.toPrecision(3)).toString()], [run.method === "textual_inversion" ? t("Vector norm") : t("Norm"), digits(m.norm, 3)], [t("Distance from start"), digits(m.distance, 3)]];
    if (measuring) boxes.push([t("One measurement"), `${measuring.toPrecision(2)} s`]);
    return [el("div", { class: "figures" }, boxes.map(([label, value]) => el("div", {}, el("span", {}, label), el("b", {}, value)))), run.prompt ? el("div", { class: "lastprompt" }, `${t("Last prompt")}: ${run.prompt}`) : null];
  }

  // What can be made of a run: its best, sheets, films, averages.
  function ways(screen) {
    const { run } = screen;
    if (!run) return null;
    const many = new Set(run.previews.map((p) => p.step)).size > 1, copies = run.saved.length, queue = (path, values) => async () => { if (await screen.act("POST", screen.here(path), values)) screen.say("good", t("It is being made; it will appear in Runs.")); };
    const make = (label, enabled, why, act) => el("button", { type: "button", disabled: !enabled, title: enabled ? "" : why, onclick: act }, label);
    return el("div", { class: "buttons" },
      run.whole || OVER.includes(screen.state) ? null : make(t("Use the best so far"), run.best && run.best.path, t("Nothing was measured yet."), () => screen.use("best")),
      make(t("Average the last 3"), run.averages && copies > 2, run.averages ? t("Three previews or copies are needed.") : t("What it learns has no average."), queue("average", { count: 3 })),
      make(t("Contact sheet"), many, t("Two previews are needed."), queue("sheet", { format: "PNG" })),
      make(t("Animation"), many, t("Two previews are needed."), queue("sheet", { format: "GIF" })));
  }

  const log = (run) => (run && run.log.length ? el("details", {}, el("summary", { class: "small" }, t("Log")), el("div", { class: "log" }, [...run.log].reverse().map((line) => el("div", {}, `${line.step ?? ""} ${line.kind === "log" ? "" : `${t(line.kind)}: `}${line.text || line.path || ""}`)))) : null);

  // The window's title shows the progress; when a training ends, who asked for it is told.
  const plain = document.title;
  function announce(screen) {
    const { run, state } = screen, name = run ? run.embedding : "";
    document.title = LIVELY.includes(state) && run && run.end ? `${Math.floor((100 * run.step) / run.end)} % · ${name} · ${plain || "SD Training Studio"}` : plain || "SD Training Studio";
    if (screen.was && LIVELY.includes(screen.was) && OVER.includes(state) && screen.id === screen.job?.id) window.studio.notify?.(state === "failed" ? t("Training of {name} failed", { name }) : t("Training of {name} is finished", { name }), state);
    if (state === "paused" && screen.was === "running" && run && run.log.some((l) => l.kind === "warning")) window.studio.notify?.(t("Training of {name} is paused", { name }), state);
    screen.was = state;
    screen.id = screen.job?.id;
  }

  // Who wants to be told is told by the browser and by a sound; the wish is kept in this browser.
  const WISH = "studio-notify";
  function notify(text, state) {
    if (localStorage.getItem(WISH) !== "1") return;
    if ("Notification" in window && Notification.permission === "granted") new Notification("SD Training Studio", { body: text, tag: "training" });
    try {
      const sound = new AudioContext(), tone = sound.createOscillator(), volume = sound.createGain();
      tone.frequency.setValueAtTime(state === "failed" ? 220 : 660, sound.currentTime);
      tone.frequency.setValueAtTime(state === "failed" ? 165 : 880, sound.currentTime + 0.18);
      volume.gain.setValueAtTime(0.12, sound.currentTime);
      volume.gain.exponentialRampToValueAtTime(0.001, sound.currentTime + 0.6);
      tone.connect(volume).connect(sound.destination);
      tone.start();
      tone.stop(sound.currentTime + 0.6);
    } catch { /* a browser without sound still shows the message */ }
  }

  function bell() {
    const box = el("input", { type: "checkbox", checked: localStorage.getItem(WISH) === "1", onchange: () => {
      localStorage.setItem(WISH, box.checked ? "1" : "0");
      if (box.checked && "Notification" in window && Notification.permission === "default") Notification.requestPermission();
    } });
    return el("label", { class: "run-bell" }, box, t("Tell me when it ends"));
  }

  setInterval(() => {
    for (const screen of screens) {
      if (!screen.host.isConnected) { screens.delete(screen); continue; }
      const shown = screen.host.offsetParent !== null && !document.hidden;
      if ((shown || (screen.live && LIVELY.includes(screen.state))) && (screen.live || !OVER.includes(screen.state))) screen.look();
    }
  }, LOOK);

  function mount() {
    const host = document.querySelector("#train_screen:not([data-ready])");
    if (!host || !window.studio.runPreviews) return;
    host.dataset.ready = "1";
    window.studio.training = new Screen(host, "training", true);
  }
  new MutationObserver(mount).observe(document.documentElement, { childList: true, subtree: true });

  // The form of the Train tab takes a run's settings.
  function cloneRun(values) {
    const box = document.querySelector("#train_cloned textarea, #train_cloned input");
    box.value = JSON.stringify(values);
    box.dispatchEvent(new Event("input", { bubbles: true }));
    setTimeout(() => document.querySelector("#train_clone").click(), 50);
  }

  // The same screen for a run of the past, in any place of the page.
  const runScreen = (host, id) => { for (const s of screens) if (s.host === host) screens.delete(s); return new Screen(host, `runs/${encodeURIComponent(id)}`, false); };
  window.studio = Object.assign(window.studio || {}, { runScreen, notify, cloneRun });
})();
