// What is painted over a picture: strokes with soft edges, undo and redo, invert, and a mask read from a file.
(() => {
  "use strict";
  const KEPT = 40; // steps that can be undone

  class Ink {
    constructor(canvas) {
      this.canvas = canvas;
      this.past = [];
      this.future = [];
    }

    get context() {
      return this.canvas.getContext("2d", { willReadFrequently: true });
    }

    resize(width, height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.past = [];
      this.future = [];
    }

    copy() {
      const copy = document.createElement("canvas");
      copy.width = this.canvas.width;
      copy.height = this.canvas.height;
      copy.getContext("2d").drawImage(this.canvas, 0, 0);
      return copy;
    }

    remember() {
      this.past.push(this.copy());
      if (this.past.length > KEPT) this.past.shift();
      this.future = [];
    }

    undo() {
      return this.travel(this.past, this.future);
    }

    redo() {
      return this.travel(this.future, this.past);
    }

    travel(from, to) {
      const step = from.pop();
      if (!step) return false;
      to.push(this.copy());
      this.restore(step);
      return true;
    }

    restore(picture) {
      const context = this.context;
      context.globalCompositeOperation = "source-over";
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      context.drawImage(picture, 0, 0);
    }

    clear() {
      this.remember();
      this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    }

    // Every pixel as white with the alpha that `alpha(r, g, b, a)` gives.
    whiten(alpha) {
      const context = this.context;
      const picture = context.getImageData(0, 0, this.canvas.width, this.canvas.height), d = picture.data;
      for (let i = 0; i < d.length; i += 4) {
        d[i + 3] = alpha(d[i], d[i + 1], d[i + 2], d[i + 3]);
        d[i] = d[i + 1] = d[i + 2] = 255;
      }
      context.putImageData(picture, 0, 0);
    }

    invert() {
      this.remember();
      this.whiten((_r, _g, _b, a) => 255 - a);
    }

    // A mask from a file: a brush layer by its alpha, anything else by its brightness. The rule of studio/diffusion/inpaint.py.
    async read(file) {
      const bitmap = await createImageBitmap(file);
      this.remember();
      const { width, height } = this.canvas, context = this.context;
      context.clearRect(0, 0, width, height);
      context.drawImage(bitmap, 0, 0, width, height);
      const data = context.getImageData(0, 0, width, height).data;
      const light = (r, g, b) => 0.299 * r + 0.587 * g + 0.114 * b;
      let clear = false, seen = 0, black = 0, white = 0;
      for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] < 255) clear = true;
        if (data[i + 3] < 128) continue;
        const value = light(data[i], data[i + 1], data[i + 2]);
        seen += 1;
        if (value <= 16) black += 1;
        if (value >= 239) white += 1;
      }
      const drawn = black && white && (black + white >= 0.9 * seen || seen >= 0.95 * width * height);
      this.whiten((r, g, b, a) => (clear && !drawn ? a : light(r, g, b) * (a / 255)));
    }

    // Strokes as they were sent to the server, with their colours; nothing to undo.
    async reopen(file) {
      const bitmap = await createImageBitmap(file);
      this.context.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
    }

    begin(point, brush) {
      this.remember();
      this.before = this.past[this.past.length - 1];
      this.points = [point];
      this.brush = brush;
      this.draw();
    }

    // The whole stroke is drawn anew each time: a soft edge must not add up where the stroke crosses itself.
    draw() {
      const layer = document.createElement("canvas");
      layer.width = this.canvas.width;
      layer.height = this.canvas.height;
      const context = layer.getContext("2d"), { size, hardness, colour, erasing } = this.brush, soft = size * (1 - hardness);
      context.lineCap = context.lineJoin = "round";
      context.strokeStyle = context.shadowColor = colour;
      context.lineWidth = Math.max(1, size - soft);
      context.shadowBlur = soft;
      context.beginPath();
      this.points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (this.points.length === 1) context.lineTo(this.points[0][0] + 0.01, this.points[0][1]);
      context.stroke();
      this.restore(this.before);
      const ink = this.context;
      ink.globalCompositeOperation = erasing ? "destination-out" : "source-over";
      ink.drawImage(layer, 0, 0);
      ink.globalCompositeOperation = "source-over";
    }

    get painted() {
      if (!this.canvas.width) return false;
      const data = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height).data;
      for (let i = 3; i < data.length; i += 4) if (data[i]) return true;
      return false;
    }

    file() {
      return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
    }
  }

  window.studio = Object.assign(window.studio || {}, { Ink });
})();
