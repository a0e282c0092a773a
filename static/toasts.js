// Toasts of the page's framework in Chinese: their titles, and what gradio itself says about a value.
(() => {
  "use strict";
  if (!navigator.language.startsWith("zh")) return;
  const TITLES = { Error: "错误", Warning: "提示", Info: "信息", Success: "完成" };
  const TEXTS = [
    [/^Value (.+) is less than minimum value (.+?)\.?$/, "数值 $1 小于最小值 $2。"],
    [/^Value (.+) is greater than maximum value (.+?)\.?$/, "数值 $1 大于最大值 $2。"],
    [/^Value: (.+?) \(type: .*\) is not in the list of choices: (.+)$/, "$1 不在可选项中。"],
    [/^(?:Could not connect|Connection errored out|Connection to the server was lost).*$/i, "与服务器的连接中断；恢复后此页会自动重新加载。"],
    [/^Cannot process this value as (?:an? )?(.+?)\.?$/i, "无法把这个值当作 $1 处理。"],
    [/^(?:cannot identify image file|Invalid image|Could not load image).*$/i, "无法识别这张图片。"],
    [/^File size exceeds.*$/i, "文件过大。"],
    [/^Invalid file type.*$/i, "不支持这种文件。"],
  ];

  function draw() {
    for (const title of document.querySelectorAll(".toast-title")) if (TITLES[title.textContent.trim()]) title.textContent = TITLES[title.textContent.trim()];
    for (const text of document.querySelectorAll(".toast-text")) {
      const now = text.textContent.trim(), found = TEXTS.find(([pattern]) => pattern.test(now));
      if (found) text.textContent = now.replace(found[0], found[1]);
    }
  }

  new MutationObserver(draw).observe(document.documentElement, { childList: true, subtree: true });
})();
