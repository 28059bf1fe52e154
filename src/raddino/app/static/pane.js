/** A share 0..1 as a colour from dark violet over orange to light yellow. */
export function blend(share) {
  const t = Math.min(Math.max(share, 0), 1);
  return [255 * Math.min(1, 1.6 * t), 255 * Math.max(0, 1.5 * t - 0.45), 255 * (t < 0.4 ? 0.2 + t : Math.max(0, 1 - 1.6 * Math.abs(t - 0.4)))];
}

function paint(image, level = 0.5, width = 1) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d"), pixels = context.createImageData(image.width, image.height);
  const low = (level - width / 2) * 65535, scale = 255 / (width * 65535);
  for (let i = 0, o = 0; i < image.values.length; i++, o += 4) {
    pixels.data[o] = pixels.data[o + 1] = pixels.data[o + 2] = (image.values[i] - low) * scale;
    pixels.data[o + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** One image as one encoder sees it: zoom, pan, a layer of patches, a point. */
export class Pane {
  constructor(encoder, key, image, told) {
    Object.assign(this, { encoder, key, image, told, layer: null, strength: 0.6, point: null, cursor: [0.5, 0.5] });
    this.figure = document.createElement("figure");
    this.canvas = document.createElement("canvas");
    this.canvas.className = "pane";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    [this.canvas.width, this.canvas.height] = [768, 768];
    this.caption = document.createElement("figcaption");
    this.figure.append(this.canvas, this.caption);
    Object.assign(this, { zoom: 1, centre: [0.5, 0.5] });
    this.listen();
  }

  static small(image) { return paint(image); }

  label(name, facts) {
    this.canvas.setAttribute("aria-label", name);
    this.caption.textContent = facts ? `${name}. ${facts}` : name;
  }

  window(level, width) {
    const asked = `${level} ${width}`;
    if (this.windowed !== asked) { this.picture = paint(this.image, level, width); this.windowed = asked; }
    this.draw();
  }

  cover(found, colour, strength = this.strength) {
    this.layer = null;
    this.strength = strength;
    if (found) {
      const [rows, columns] = found.shape, canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [columns, rows];
      const context = canvas.getContext("2d"), pixels = context.createImageData(columns, rows);
      found.values.flat(1).forEach((value, i) => pixels.data.set([...colour(value), 255], 4 * i));
      context.putImageData(pixels, 0, 0);
      this.layer = { canvas, place: found.place };
    }
    this.draw();
  }

  fade(strength) { this.strength = strength; this.draw(); }
  mark(point) { this.point = point; this.draw(); }
  whole() { Object.assign(this, { zoom: 1, centre: [0.5, 0.5] }); this.draw(); }
  follow(other) { Object.assign(this, { zoom: other.zoom, centre: [...other.centre] }); this.draw(); }

  /** Left, top, width and height of the whole image on the canvas. */
  box() {
    const { width, height } = this.image, scale = (this.canvas.width / Math.max(width, height)) * this.zoom;
    const [w, h] = [width * scale, height * scale];
    return [this.canvas.width / 2 - this.centre[0] * w, this.canvas.height / 2 - this.centre[1] * h, w, h];
  }

  draw() {
    if (!this.picture) return;
    const context = this.canvas.getContext("2d"), [left, top, w, h] = this.box();
    context.globalAlpha = 1;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.picture, left, top, w, h);
    if (this.layer) {
      const [t, l, height, width] = this.layer.place;
      context.save();
      context.beginPath();
      context.rect(left, top, w, h);
      context.clip();
      context.globalAlpha = this.strength;
      context.imageSmoothingEnabled = false;
      context.drawImage(this.layer.canvas, left + l * w, top + t * h, width * w, height * h);
      context.restore();
    }
    if (this.point) {
      const [x, y] = [left + this.point[0] * w, top + this.point[1] * h];
      for (const [style, line] of [["#000", 5], ["#fff", 2]]) {
        context.strokeStyle = style;
        context.lineWidth = line;
        context.beginPath();
        context.arc(x, y, 9, 0, 2 * Math.PI);
        context.stroke();
      }
    }
  }

  /** Shares of the image's width and height under a pointer. */
  under(event) {
    const seen = this.canvas.getBoundingClientRect(), [left, top, w, h] = this.box();
    const scale = this.canvas.width / seen.width;
    return [((event.clientX - seen.left) * scale - left) / w, ((event.clientY - seen.top) * scale - top) / h];
  }

  pan(x, y) {
    this.centre = [this.centre[0] + x, this.centre[1] + y].map((one) => Math.min(Math.max(one, 0), 1));
    this.draw();
    this.told.moved(this);
  }

  magnify(factor, on = this.centre) {
    const zoom = Math.min(Math.max(this.zoom * factor, 1), 20), shift = 1 - this.zoom / zoom;
    this.zoom = zoom;
    this.pan((on[0] - this.centre[0]) * shift, (on[1] - this.centre[1]) * shift);
  }

  listen() {
    let grip = null, dragged = false;
    this.canvas.addEventListener("pointerdown", (event) => {
      [grip, dragged] = [this.under(event), false];
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const [x, y] = this.under(event);
      if (!grip) return this.told.point(this, x, y, false);
      if (!dragged && Math.hypot(x - grip[0], y - grip[1]) * this.zoom < 0.01) return;
      dragged = true;
      this.pan(grip[0] - x, grip[1] - y);
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (!dragged) this.told.point(this, ...(this.cursor = this.under(event)), true);
      grip = null;
    });
    this.canvas.addEventListener("pointercancel", () => { grip = null; });
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.magnify(Math.exp(-event.deltaY / 500), this.under(event));
    }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step && event.shiftKey) this.pan((step[0] * 0.1) / this.zoom, (step[1] * 0.1) / this.zoom);
    else if (step) {
      this.cursor = this.cursor.map((one, i) => Math.min(Math.max(one + (step[i] * 0.03) / this.zoom, 0), 0.999));
      this.told.point(this, ...this.cursor, true);
    } else if (event.key === "Enter") this.told.point(this, ...this.cursor, true);
    else if (event.key === "+") this.magnify(1.25);
    else if (event.key === "-") this.magnify(0.8);
    else if (event.key === "0") { this.whole(); this.told.moved(this); } else return;
    event.preventDefault();
  }
}
