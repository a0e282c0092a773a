// The queue: what runs and what waits, put in another order by dragging or by buttons, and taken out.
(() => {
  "use strict";
  const { el, put, t } = window.studio.parts;
  let dragged = "";

  function draw(host, queue, room) {
    const mark = JSON.stringify(queue);
    if (host.dataset.mark === mark) return;
    host.dataset.mark = mark;
    const focus = host.contains(document.activeElement) ? [document.activeElement.dataset.act, document.activeElement.closest("li")?.dataset.job] : null;
    const waiting = queue.filter((job) => job.state === "queued");
    put(host, el("h4", {}, t("Queue")), queue.length ? el("ol", { class: "runs-jobs" }, queue.map((job) => line(job, waiting, room))) : el("p", { class: "small" }, t("Nothing runs and nothing waits.")));
    if (focus) host.querySelector(`li[data-job="${CSS.escape(focus[1] || "")}"] button[data-act="${CSS.escape(focus[0] || "")}"]`)?.focus();
  }

  function line(job, waiting, room) {
    const at = waiting.findIndex((each) => each.id === job.id), still = at < 0, first = at === 0, last = at === waiting.length - 1;
    const move = (wish) => room.act("POST", `jobs/${job.id}/move`, wish);
    const button = (act, label, title, why, does) => el("button", { type: "button", dataset: { act }, disabled: Boolean(why), title: why || title, "aria-label": `${title} (${job.about || job.id})`, onclick: does }, label);
    const why = still ? t("It runs already.") : "";
    const drop = {
      ondragstart: (event) => { dragged = job.id; event.dataTransfer.effectAllowed = "move"; event.dataTransfer.setData("text/plain", job.id); },
      ondragover: (event) => { if (dragged && dragged !== job.id) { event.preventDefault(); event.currentTarget.classList.add("over"); } },
      ondragleave: (event) => event.currentTarget.classList.remove("over"),
      ondragend: () => { dragged = ""; },
      ondrop: (event) => {
        event.preventDefault();
        event.currentTarget.classList.remove("over");
        const from = waiting.findIndex((each) => each.id === dragged);
        if (from >= 0 && from !== at) room.act("POST", `jobs/${dragged}/move`, from < at ? { after: job.id } : { before: job.id });
      },
    };
    return el("li", { dataset: { job: job.id }, draggable: still ? null : "true", class: still ? "running" : "", ...(still ? {} : drop) },
      el("span", { class: `state ${job.state}` }, window.studio.runTitled(job.state)), el("b", {}, window.studio.runTitled(job.kind)), el("span", { class: "about" }, job.about),
      button("first", "⤒", t("To the front"), why || (first ? t("It is the first already.") : ""), () => move({ first: true })),
      button("up", "↑", t("Earlier"), why || (first ? t("It is the first already.") : ""), () => move({ before: waiting[at - 1].id })),
      button("down", "↓", t("Later"), why || (last ? t("It is the last already.") : ""), () => move({ after: waiting[at + 1].id })),
      button("cancel", still ? t("Stop") : t("Cancel"), still ? t("Finish the step, keep what is there, and end") : t("Take it out of the queue"), job.state === "stopping" ? t("It is stopping.") : "", () => room.act("POST", `jobs/${job.id}/asks/stop`, {})));
  }

  window.studio = Object.assign(window.studio || {}, { runsQueue: { draw } });
})();
