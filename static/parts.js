// What the scripted parts of the page share: elements, words in the person's language, and the way to the server.
(() => {
  "use strict";
  const zh = navigator.language.startsWith("zh");
  const DRAWN = ["svg", "g", "line", "path", "polyline", "polygon", "circle", "text", "rect", "title"];
  let words = null;

  // Words come with the hosts of the page's scripted parts; they are read when the first of them is there.
  function known() {
    const hosts = document.querySelectorAll("[data-words]");
    if (words && words.hosts === hosts.length) return words.all;
    words = { hosts: hosts.length, all: {} };
    for (const host of hosts) Object.assign(words.all, JSON.parse(host.dataset.words || "{}"));
    return words.all;
  }

  function t(text, values = {}) {
    const said = (zh && known()[text]) || text;
    return said.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
  }

  function el(tag, properties = {}, ...children) {
    const drawn = DRAWN.includes(tag), node = drawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "class") node.setAttribute("class", value);
      else if (name === "dataset") Object.assign(node.dataset, value);
      else if (name === "style") node.style.cssText = value;
      else if (!drawn && name in node && typeof value !== "string") node[name] = value;
      else if (["value", "textContent", "innerHTML"].includes(name)) node[name] = value;
      else node.setAttribute(name, value === true ? "" : value);
    }
    put(node, children);
    return node;
  }

  const there = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== "");
  function put(host, ...children) {
    host.replaceChildren(...there(children));
    return host;
  }

  function url(path, query = {}) {
    const address = new URL(`studio/v1/${path}`, document.baseURI);
    for (const [name, value] of Object.entries(query)) if (value !== "" && value !== undefined && value !== null) address.searchParams.set(name, value);
    return address;
  }

  // The header asks the server for error messages in the browser's language.
  async function ask(method, path, body, query) {
    const plain = body === undefined || body instanceof FormData || body instanceof Blob;
    const sent = fetch(url(path, query), { method, cache: "no-store", headers: { "X-Studio-Page": "1", ...(plain ? {} : { "Content-Type": "application/json" }) }, body: plain ? body : JSON.stringify(body) });
    const answer = await sent.catch(() => { throw new Error(t("The studio's server does not answer. Nothing was changed; try again in a moment.")); });
    const data = (answer.headers.get("content-type") || "").includes("json") ? await answer.json() : await answer.text();
    if (!answer.ok) throw Object.assign(new Error(data.detail || String(answer.status)), { status: answer.status });
    return data;
  }

  function duration(seconds) {
    if (seconds === null || seconds === undefined || !isFinite(seconds)) return "";
    const s = Math.round(seconds);
    if (s < 60) return t("{s} s", { s });
    if (s < 3600) return t("{m} min {s} s", { m: Math.floor(s / 60), s: s % 60 });
    return t("{h} h {m} min", { h: Math.floor(s / 3600), m: Math.floor((s % 3600) / 60) });
  }

  // A sentence of the server with {places}, and its advice where there is one; numbers come as they are to be read.
  function sentence(said) {
    if (!said) return "";
    return [said.text, said.advice].filter(Boolean).map((text) => t(text, said.values)).join(zh ? "" : " ");
  }

  // A dialog of the page; `build(close)` gives what is in it.
  function dialog(title, build) {
    const box = el("dialog", { class: "studio-dialog" });
    const close = () => { box.close(); box.remove(); };
    put(box, el("h3", {}, title), build(close));
    box.addEventListener("cancel", () => box.remove());
    document.body.append(box);
    box.showModal();
    return box;
  }

  const parts = { el, put, t, zh, url, ask, duration, sentence, dialog };
  window.studio = Object.assign(window.studio || {}, { parts });
})();
