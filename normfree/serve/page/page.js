"use strict";

// All that comes from files or the network is shown as text, never as HTML.
const by = (id) => document.getElementById(id);
const shown = []; // one entry per image: {name, classes} or {name, error}
let model = null;
let queue = Promise.resolve();
let waiting = 0;
let done = 0;

const MAPS = {
  "class activation": "What each place adds to the logit (their mean is the logit) of",
  gradient: "Effect of each place on the logit, to first order, of",
};

async function start() {
  const answer = await fetch("/model");
  model = await answer.json();
  if (!answer.ok) throw new Error(model.error);
  by("name").textContent = model.name ?? "normfree";
  document.title = `${model.name ?? "a network"} · normfree`;
  by("about").textContent =
    `${model.classes.length} classes, images of ${model.test_size} × ${model.test_size} pixels`;
  by("limits").textContent = `up to ${megabytes(model.limits.image_bytes)} each; they stay on the server's machine`;
}

const megabytes = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`;

function add(files) {
  for (const file of files) {
    const article = by("result").content.cloneNode(true).querySelector("article");
    article.querySelector(".file").textContent = file.name;
    waiting += 1;
    // One after another: the server computes one at a time, and an error concerns one image.
    queue = queue.then(() => classify(file, article));
  }
  report();
}

async function classify(file, article) {
  let entry;
  try {
    entry = await ask(file);
  } catch (error) {
    entry = { name: file.name, error: `the server did not answer: ${error.message}` };
  }
  entry.name = file.name; // as it is here: in the form, browsers write %22 for a quote
  shown.push(entry);
  by("results").prepend(article);
  if (entry.error) {
    const line = article.querySelector(".error");
    line.textContent = entry.error;
    line.hidden = false;
  } else {
    await show(entry, article);
  }
  done += 1;
  report();
}

async function ask(file) {
  if (file.size > model.limits.image_bytes) {
    return { name: file.name, error: `it has more than ${megabytes(model.limits.image_bytes)}` };
  }
  const form = new FormData();
  form.append("image", file);
  const answer = await fetch("/predict?top=5&look=1", { method: "POST", body: form });
  const found = await answer.json();
  return found.images ? found.images[0] : { name: file.name, error: found.error };
}

async function show(entry, article) {
  const canvas = article.querySelector("canvas");
  const view = new Image();
  view.src = entry.view;
  await view.decode();
  canvas.height = Math.round((canvas.width * view.height) / view.width);
  const overlay = article.querySelector(".overlay");
  let chosen = 0;
  const buttons = entry.classes.map((found, index) =>
    row(found, entry.map && (() => choose(index))));
  const paint = () => {
    draw(canvas, view, overlay.checked ? entry.classes[chosen].map : null);
    canvas.setAttribute("aria-label",
      `the image as the network saw it${overlay.checked && entry.map ? ", and where it looked" : ""}`);
  };
  function choose(index) {
    chosen = index;
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(at === index)));
    article.querySelector(".caption").textContent = `${MAPS[entry.map]} ${entry.classes[index].class}`;
    range(entry.classes[index].map).forEach((value, end) => {
      article.querySelectorAll(".scale span")[end].textContent = value.toPrecision(2);
    });
    paint();
  }
  const list = article.querySelector("ol");
  for (const button of buttons) {
    const item = document.createElement("li");
    item.append(button);
    list.append(item);
  }
  if (entry.map) {
    overlay.addEventListener("change", paint);
    choose(0);
  } else {
    article.querySelector(".switch").hidden = true;
    article.querySelector(".scale").hidden = true;
    article.querySelector(".caption").textContent =
      "The image as the network saw it; an exported file has no map of where it looked.";
    paint();
  }
  article.querySelector(".columns").hidden = false;
}

function row(found, press) {
  const element = document.createElement(press ? "button" : "div");
  if (press) {
    element.type = "button";
    element.addEventListener("click", press);
  } else {
    element.className = "row";
  }
  const bar = document.createElement("i");
  bar.style.width = `${100 * found.probability}%`;
  const label = document.createElement("span");
  label.className = "label";
  label.textContent = found.class;
  const share = document.createElement("span");
  share.className = "share";
  share.textContent = (100 * found.probability).toFixed(1);
  element.append(bar, label, share);
  return element;
}

const range = (map) => [Math.min(...map.flat()), Math.max(...map.flat())];

function draw(canvas, view, map) {
  const paper = canvas.getContext("2d");
  paper.imageSmoothingEnabled = view.width >= 128; // small images as the pixels that they are
  paper.clearRect(0, 0, canvas.width, canvas.height);
  paper.drawImage(view, 0, 0, canvas.width, canvas.height);
  if (!map) return;
  const [least, most] = range(map);
  const heat = new ImageData(map[0].length, map.length);
  map.flat().forEach((value, at) => {
    const share = most > least ? (value - least) / (most - least) : 0;
    heat.data.set([255, 122, 0, Math.round(190 * share)], 4 * at);
  });
  const small = document.createElement("canvas");
  small.width = heat.width;
  small.height = heat.height;
  small.getContext("2d").putImageData(heat, 0, 0);
  paper.imageSmoothingEnabled = true;
  paper.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function report() {
  const wrong = shown.filter((entry) => entry.error).length;
  const images = (count) => `${count} image${count === 1 ? "" : "s"}`;
  const left = waiting - done;
  by("status").textContent = left > 0
    ? `${done} of ${images(waiting)} done`
    : waiting === 0 ? "" : `${images(waiting - wrong)} classified${wrong ? `, ${wrong} not readable` : ""}`;
  by("progress").hidden = left === 0;
  by("progress").max = Math.max(waiting, 1);
  by("progress").value = done;
  by("save").hidden = by("clear").hidden = left > 0 || shown.length === 0;
}

// A cell that starts with one of these is a formula to spreadsheets.
const cell = (text) => `"${(/^[=+\-@\t\r]/.test(text) ? "'" + text : text).replaceAll('"', '""')}"`;

function save() {
  const lines = ["image,class,probability,error"];
  for (const entry of shown) {
    if (entry.error) lines.push(`${cell(entry.name)},,,${cell(entry.error)}`);
    for (const found of entry.classes ?? []) {
      lines.push(`${cell(entry.name)},${cell(found.class)},${found.probability},`);
    }
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
  link.download = "predictions.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

function clear() {
  shown.length = waiting = done = 0;
  by("results").replaceChildren();
  report();
  by("files").focus();
}

const drop = by("drop");
by("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.remove("over");
  });
}
document.addEventListener("drop", (event) => add(event.dataTransfer.files));
by("save").addEventListener("click", save);
by("clear").addEventListener("click", clear);
start().catch((error) => {
  by("about").textContent = `The server does not answer: ${error.message}`;
});
