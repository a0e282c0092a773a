// Messages at the fields they are about: a refusal names its fields, each is marked where it stands, and the mark goes when the field is edited.
(() => {
  "use strict";
  const dismissed = new Set(); // refusals whose form was edited since
  const HEADER = ["checkpoint", "vae", "clip_skip"]; // fields that every form shares
  let drawn = "";

  const block = (form, field) => document.getElementById(HEADER.includes(field) ? field : `${form}_${field}`);

  function clear() {
    for (const mark of document.querySelectorAll(".field-error")) mark.remove();
    for (const wrong of document.querySelectorAll(".wrong-field")) {
      wrong.classList.remove("wrong-field");
      for (const input of wrong.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    }
  }

  function mark(form, field, text) {
    const place = block(form, field);
    if (!place) return;
    const message = document.createElement("div");
    message.className = "field-error";
    message.setAttribute("role", "alert");
    message.textContent = text;
    place.append(message);
    place.classList.add("wrong-field");
    place.querySelector("input, textarea")?.setAttribute("aria-invalid", "true");
    for (let fold = place.parentElement; fold; fold = fold.parentElement) if (fold.tagName === "DETAILS") fold.open = true;
  }

  function draw() {
    const notes = [...document.querySelectorAll("[data-fields]")];
    for (const note of notes) if (note.dataset.refusal) note.hidden = dismissed.has(note.dataset.refusal);
    const shown = notes.filter((note) => !note.hidden);
    const now = JSON.stringify(shown.map((note) => [note.dataset.form, note.dataset.fields]));
    const gone = [...document.querySelectorAll(".wrong-field")].some((place) => !place.querySelector(".field-error"));
    if (now === drawn && !gone) return;
    drawn = now;
    clear();
    for (const note of shown) for (const [field, text] of Object.entries(JSON.parse(note.dataset.fields))) mark(note.dataset.form, field, text);
  }

  // What is edited is no longer what was refused.
  function edited(event) {
    const shared = HEADER.some((field) => document.getElementById(field)?.contains(event.target));
    for (const note of document.querySelectorAll("[data-refusal]")) if (shared || event.target.closest?.(`[id^="${note.dataset.form}_"]`)) dismissed.add(note.dataset.refusal);
    draw();
  }

  let waiting = 0;
  new MutationObserver(() => { waiting ||= requestAnimationFrame(() => { waiting = 0; draw(); }); }).observe(document.documentElement, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-refusal", "data-fields"] });
  document.addEventListener("input", edited);
  document.addEventListener("change", edited);
  // An entry picked from a list, a removed token and a slider's reset button change a field without an event of its input.
  const picked = () => edited({ target: document.activeElement });
  document.addEventListener("mousedown", (event) => { if (event.target.closest?.('[role="option"]')) picked(); }, true);
  document.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.getAttribute?.("aria-expanded") === "true") picked(); }, true);
  document.addEventListener("click", (event) => { if (event.target.closest?.(".token-remove, .reset-button")) edited(event); }, true);
})();
