// Gradio's page knows only zh-CN and zh-TW: a browser that asks for another Chinese, such as zh, zh-Hans-CN or zh-HK, would get English.
(() => {
  const asked = navigator.language || "";
  if (/^zh\b/i.test(asked) && !["zh-CN", "zh-TW"].includes(asked)) Object.defineProperty(navigator, "language", { get: () => "zh-CN", configurable: true });
})();
