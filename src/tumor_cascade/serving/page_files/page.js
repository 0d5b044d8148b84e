"use strict";
// Sends slices to /invocations and shows the answers; nothing comes from anywhere but this server.

const find = (id) => document.getElementById(id);
const png = (data) => `data:image/png;base64,${data}`;
let answers = [];
let current = 0;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say(text, kind = "") {
  find("status").textContent = text;
  find("status").className = kind;
}

async function encodeFile(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}

// Slices of one volume are read together; others stand for themselves.
async function predict(slices, isVolume) {
  find("viewer").hidden = find("empty").hidden = true;
  say(slices.length === 1 ? "Looking at 1 slice …" : `Looking at ${slices.length} slices …`, "busy");
  const rows = slices.map((slice, index) => ({
    id: slice.name, image: slice.image, volume_id: isVolume ? "volume" : null, slice_index: isVolume ? index : null,
  }));
  try {
    const response = await fetch("/invocations", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ dataframe_records: rows, params: { mask: "none", has_pictures: true } }),
    });
    const body = await response.json();
    if (!response.ok) throw new Error(body.message);
    show(body.predictions);
  } catch (error) {
    say(`No answer: ${error.message}`, "wrong");
  }
}

function show(predictions) {
  answers = predictions;
  const read = answers.filter((answer) => answer.status === "ok");
  const positive = read.filter((answer) => answer.is_positive).length;
  const failed = answers.length - read.length;
  const found = positive ? `tumor found in ${positive}` : "no tumor found";
  say(`${read.length === 1 ? "1 slice" : `${read.length} slices`} read, ${found}` +
    (failed ? `; ${failed} could not be read.` : "."));
  find("strip").replaceChildren(...answers.map(makeTile));
  find("strip").hidden = answers.length < 2;
  find("viewer").hidden = false;
  find("result").scrollIntoView({ block: "nearest" });
  const best = Math.max(...answers.map((answer) => answer.probability ?? -1));
  select(Math.max(0, answers.findIndex((answer) => answer.probability === best)));
}

function makeTile(answer, index) {
  const isRead = answer.status === "ok";
  const percent = isRead ? formatPercent(answer.probability) : "not read";
  const face = isRead ? make("img", { src: png(answer.overlay), alt: "" }) : make("span", { className: "none", textContent: "?" });
  const level = make("span", { className: answer.is_positive ? "level positive" : "level", textContent: percent });
  const tile = make("button", { type: "button", onclick: () => select(index) }, face, level);
  tile.setAttribute("aria-label", `Slice ${index + 1}, ${isRead ? `tumor probability ${percent}` : percent}`);
  return tile;
}

function select(index) {
  current = index;
  const answer = answers[index];
  const isRead = answer.status === "ok";
  [...find("strip").children].forEach((tile, place) => tile.setAttribute("aria-current", String(place === index)));
  find("strip").children[index].scrollIntoView({ block: "nearest", inline: "nearest" });
  find("place").textContent = answers.length > 1 ? `slice ${index + 1} of ${answers.length}` : "";
  find("fault").textContent = `${answer.id}: ${answer.error}`;
  find("fault").hidden = isRead;
  for (const id of ["picture", "overlay-choice", "numbers"]) find(id).hidden = !isRead;
  drawPicture();
  const decision = find("decision");
  decision.textContent = isRead ? (answer.is_positive ? "◆ Tumor found" : "○ No tumor found") : "? Not read";
  decision.className = answer.is_positive ? "decision positive" : "decision";
  if (!isRead) return;
  find("probability").textContent = formatPercent(answer.probability);
  find("probability-bar").value = answer.probability;
  find("area").textContent = `${answer.tumor_area_px.toLocaleString("en")} px`;
  const share = answer.tumor_area_px / (answer.height_px * answer.width_px);
  find("area").append(make("small", { textContent: `${formatPercent(share)} of ${answer.width_px} x ${answer.height_px}` }));
  find("uncertainty").textContent = `${answer.uncertainty.toFixed(2)} of 1 bit `;
  if (answer.is_uncertain) find("uncertainty").append(make("span", { className: "flag", textContent: "uncertain" }));
  find("context").textContent = answer.has_context
    ? "read with the other slices of its volume"
    : "read alone: other slices of the patient were missing";
}

function drawPicture() {
  const answer = answers[current];
  if (answer.status !== "ok") return;
  const hasOverlay = find("has-overlay").checked;
  find("picture").src = png(hasOverlay ? answer.overlay : answer.picture);
  const marked = answer.tumor_area_px ? `, ${answer.tumor_area_px} pixels marked as tumor` : ", nothing marked";
  find("picture").alt = `FLAIR of slice ${current + 1}${hasOverlay ? marked : ""}`;
}

function formatPercent(share) {
  const percent = 100 * share;
  if (percent > 99.9 && percent < 100) return "> 99.9 %";
  return `${percent.toFixed(percent === 0 || percent === 100 || (percent >= 10 && percent <= 99) ? 0 : 1)} %`;
}

async function takeFiles(list) {
  const files = [...list].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  if (!files.length) return;
  markSample(null);
  const slices = await Promise.all(files.map(async (file) => ({ name: file.name.slice(-256), image: await encodeFile(file) })));
  await predict(slices, find("is-volume").checked && slices.length > 1);
}

function markSample(chosen) {
  document.querySelectorAll(".sample").forEach((button) => button.setAttribute("aria-pressed", String(button === chosen)));
}

function makeSample(sample) {
  const middle = Math.floor(sample.slices.length / 2);
  const thumbs = sample.slices.slice(middle - 1, middle + 2).map((slice) => make("img", { src: png(slice.thumbnail), alt: "" }));
  const label = make("span", {}, sample.name, make("small", { textContent: `${sample.slices.length} slices, generated` }));
  const button = make("button", { type: "button", className: "sample" }, label, make("span", { className: "thumbs" }, ...thumbs));
  button.setAttribute("aria-pressed", "false");
  button.onclick = () => {
    markSample(button);
    predict(sample.slices.map((slice, index) => ({ name: `${sample.name}, slice ${index + 1}`, image: slice.image })), true);
  };
  return button;
}

async function start() {
  find("files").onchange = (event) => takeFiles(event.target.files);
  find("has-overlay").onchange = drawPicture;
  find("form").onsubmit = (event) => event.preventDefault();
  const drop = find("drop");
  for (const [name, isOver] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", isOver);
      if (name === "drop") takeFiles(event.dataTransfer.files);
    });
  }
  find("strip").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !answers[current + step]) return;
    event.preventDefault();
    select(current + step);
    find("strip").children[current].focus();
  });
  const samples = await (await fetch("/samples")).json();
  find("samples").replaceChildren(...samples.map(makeSample));
  const model = await fetch("/model");
  const facts = await model.json();
  if (model.ok) find("threshold").textContent = `called tumor from ${formatPercent(facts.settings.decision_threshold)}`;
  find("model").textContent = model.ok
    ? `Cascade ${facts.content_id.slice(0, 12)}` + (facts.model_version === null ? "" : `, version ${facts.model_version}`)
    : "The cascade is still being loaded.";
}

start();
