// The study page: draws what the element #data holds, and again whenever that, the choice or the theme changes.
"use strict";

const $ = (selector) => document.querySelector(selector);
let page = JSON.parse($("#data").textContent);
const chosen = { study: 0, trial: null, sample: 0, layer: null, sort: "trial", down: false, all: false };
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]; // as in every figure
const ON_DARK = { "#0072B2": "#5CB3E8", "#000000": "#E6E9EE" }; // what could not be seen there
const THEMES = ["as the system", "light", "dark"];
const MOST_ROWS = 200;
const MOST_SLICES = 24;
const FETCH_SECONDS = 3;
const RELOAD_SECONDS = 15;

const study = () => page.studies[chosen.study];
const trialOf = (one, number) => one.trials.find((trial) => trial.trial === number);
const isNarrow = () => innerWidth <= 900;

// ---- words and elements

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function told(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

const short = (name) => name.replaceAll("pruner.", "").replace(/\._target_$/, "");
const plain = (value) => (typeof value === "string" && /^\w+(\.\w+)+$/.test(value) ? value.split(".").pop() : value); // code
const settingsOf = (trial) => Object.fromEntries(Object.entries(trial.settings).map(([name, value]) => [short(name), plain(value)]));
const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function hover(head, facts) {
  const lines = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined);
  const few = lines.slice(0, 14).map(([name, value]) => `${escaped(name)}: ${escaped(told(value))}`);
  return [`<b>${escaped(head)}</b>`, ...few].join("<br>");
}

// ---- theme

function theme() {
  const wanted = THEMES[themed % THEMES.length];
  const isDark = wanted === "dark" || (wanted === THEMES[0] && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  $("#theme").textContent = `theme: ${wanted}`;
}

let themed = 0; // place in THEMES
function remember(value) {
  themed = value;
  try { // a browser may forbid it to pages of a file
    localStorage.setItem("autoprune-theme", value);
  } catch { /* then it is the system's again next time */ }
}

function recall() {
  try {
    themed = Number(localStorage.getItem("autoprune-theme")) || 0;
  } catch { /* as above */ }
}

const look = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const isDark = () => document.documentElement.dataset.theme === "dark";
const seen = (colour) => (isDark() && ON_DARK[colour.toUpperCase()]) || colour;
const colourOf = (index) => seen(COLOURS[index % COLOURS.length]);

const scale = () => (isDark() ? [[0, "#8a7be0"], [0.5, "#2bb5a0"], [1, "#fde725"]] : "Viridis"); // its dark end is lost there

// ---- figures

function axis(more = {}) {
  const colours = { gridcolor: look("line"), zerolinecolor: look("line"), linecolor: look("line") };
  return { ...colours, automargin: true, ...more };
}

const titled = (text, more = {}) => axis({ title: { text, standoff: 8 }, ...more });

function draw(place, traces, layout) {
  const whole = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: look("text"), family: "system-ui, sans-serif", size: 12 },
    hoverlabel: { bgcolor: look("card"), bordercolor: look("line"), font: { color: look("text") }, align: "left" },
    margin: { l: 52, r: 14, t: 30, b: 44 },
    dragmode: isNarrow() ? false : "zoom", // a finger scrolls
    hovermode: "closest",
    uirevision: study().name, // a zoom lasts while the data grow
    modebar: { bgcolor: "rgba(0,0,0,0)", color: look("soft"), activecolor: look("accent") },
    ...layout,
  };
  const options = { displaylogo: false, responsive: true, displayModeBar: isNarrow() ? false : "hover" };
  Plotly.react(place, traces, whole, options);
  if (!place.listens) {
    place.listens = true;
    place.on("plotly_click", ({ points: [point] }) => point.customdata && choose(...point.customdata, true));
  }
}

// Plotly measures a place once: one that is to have another size begins anew.
function sized(place, side, value) {
  if (place.style[side] === value) return place;
  Plotly.purge(place);
  place.listens = false;
  place.style[side] = value;
  return place;
}

function points(trials, index, x, y, more) {
  const name = (trial) => hover(`trial ${trial.trial}${trial.notes.baseline === undefined ? "" : " (baseline)"}`, {
    [page.studies[index].cost.label]: trial.cost, score: trial.score, ...settingsOf(trial),
  });
  return {
    type: "scatter", mode: "markers", x: trials.map(x), y: trials.map(y), text: trials.map(name),
    hovertemplate: "%{text}<extra></extra>", customdata: trials.map((trial) => [index, trial.trial]), ...more,
  };
}

const cost = (trial) => trial.cost;
const score = (trial) => trial.score;
const measuredTrials = (one) => one.trials.filter((trial) => trial.feasible && trial.score !== null && trial.cost !== null);
const labelled = (name, what) => (page.studies.length > 1 ? `${name}: ${what}` : what);

function bounds(studies) {
  const values = [...new Set(studies.flatMap((one) => one.bounds))];
  const line = { color: look("soft"), width: 1, dash: "dash" };
  const words = { yref: "paper", y: 0, yanchor: "bottom", xanchor: "right", showarrow: false, textangle: -90 };
  return {
    shapes: values.map((x) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line })),
    annotations: values.map((x) => ({ ...words, x, text: `bound ${told(x)}`, font: { color: look("soft"), size: 11 } })),
  };
}

function ring(x, y) {
  const marker = { size: 17, symbol: "circle-open", color: look("text"), line: { width: 2 } };
  return { type: "scatter", mode: "markers", x: [x], y: [y], marker, hoverinfo: "skip", showlegend: false };
}

const legend = () => ({ orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } });

function drawTune() {
  const traces = [];
  page.studies.forEach((one, index) => {
    const ran = measuredTrials(one);
    const others = ran.filter((trial) => !trial.front);
    const front = ran.filter((trial) => trial.front).sort((a, b) => a.cost - b.cost);
    const grey = page.studies.length > 1 ? colourOf(index) : look("soft");
    const hollow = { symbol: "circle-open", size: 7, color: grey, opacity: 0.6 };
    if (others.length) {
      const name = labelled(one.name, "other trials");
      traces.push(points(others, index, cost, score, { name, marker: hollow }));
    }
    const line = { shape: "hv", color: colourOf(index), width: 2 };
    const marker = { size: 9, color: colourOf(index) };
    const name = labelled(one.name, "front");
    traces.push(points(front, index, cost, score, { name, marker, line, mode: "lines+markers" }));
  });
  const here = trialOf(study(), chosen.trial);
  if (here && here.score !== null && here.cost !== null) traces.push(ring(here.cost, here.score));
  const words = { xaxis: titled(study().cost.label), yaxis: titled(study().score.label) };
  draw($("#tune"), traces, { ...words, ...bounds(page.studies), legend: legend(), showlegend: true });
}

function interval(rows, colour) {
  const array = rows.map((row) => row.high - row.score);
  const arrayminus = rows.map((row) => row.score - row.low);
  return { type: "data", symmetric: false, array, arrayminus, color: colour, thickness: 1, width: 3 };
}

function armTrace(rows, name, index, marker, more = {}) {
  const facts = (row) => ({
    "FLOPs ratio": row.flops_ratio, score: row.score, "95 % interval": `${told(row.low)} to ${told(row.high)}`,
    "as unpruned": row.loyalty, ...more.settings?.(row),
  });
  const head = (row) => (row.arm === "front" ? `trial ${row.trial}` : row.arm);
  return {
    type: "scatter", mode: "markers", name, marker, error_y: interval(rows, marker.color),
    x: rows.map((row) => row.flops_ratio), y: rows.map(score), text: rows.map((row) => hover(head(row), facts(row))),
    hovertemplate: "%{text}<extra></extra>", customdata: rows.map((row) => (row.trial === null ? null : [index, row.trial])),
  };
}

function drawReport() {
  const traces = [];
  const levels = { shapes: [], annotations: [] };
  page.studies.forEach((one, index) => {
    const measured = one.report.filter((row) => row.score !== null);
    const tuned = measured.filter((row) => row.arm === "front");
    const settings = (row) => settingsOf(trialOf(one, row.trial) ?? { settings: {} });
    if (tuned.length) {
      const marker = { size: 9, color: colourOf(index) };
      traces.push(armTrace(tuned, labelled(one.name, "points of the front"), index, marker, { settings }));
    }
    if (index !== chosen.study) return;
    const arms = measured.filter((row) => row.colour);
    for (const name of new Set(arms.map((row) => row.arm))) {
      const rows = arms.filter((row) => row.arm === name);
      const marker = { size: 9, color: seen(rows[0].colour), symbol: rows[0].symbol };
      const line = { color: marker.color, width: 1, dash: "dot" };
      traces.push({ ...armTrace(rows, labelled(one.name, name), index, marker), mode: "lines+markers", line });
    }
    const line = { color: look("soft"), width: 1, dash: "dot" };
    const words = { xref: "paper", x: 0, xanchor: "left", yanchor: "bottom", showarrow: false };
    for (const { score: y } of measured.filter((row) => row.arm === "unpruned")) {
      levels.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line });
      levels.annotations.push({ ...words, y, text: `unpruned ${told(y)}`, font: { color: look("soft"), size: 11 } });
    }
  });
  const missing = study().report.filter((row) => row.score === null).map((row) => `${row.arm} at ${told(row.bound)}: ${row.note}`);
  $("#noreport").textContent = traces.length ? missing.join("; ") : "Not measured yet: that comes after the last trial.";
  $("#report").hidden = !traces.length;
  if (!traces.length) return;
  const here = study().report.find((row) => row.trial === chosen.trial && row.score !== null);
  if (here) traces.push(ring(here.flops_ratio, here.score));
  const limits = bounds(page.studies);
  draw($("#report"), traces, {
    xaxis: titled("FLOPs ratio (pruned / unpruned prefill)"),
    yaxis: titled("score"),
    shapes: [...limits.shapes, ...levels.shapes],
    annotations: [...limits.annotations, ...levels.annotations],
    legend: legend(),
    showlegend: true,
  });
}

function drawEpisodes() {
  const played = study().episodes;
  $("#episodes").hidden = !played;
  if (!played) return;
  const arms = played.rows;
  const signed = (value) => (value > 0 ? `+${told(value)}` : told(value));
  const lines = [
    ["FLOPs ratio", (row) => row.flops_ratio],
    ["score", (row) => (row.score === null ? row.note : `${told(row.score)} [${told(row.low)}, ${told(row.high)}]`)],
    ["minus", (row) => row.reference],
    ["difference", (row) => (row.difference === null ? "" : `${signed(row.difference)} [${signed(row.difference_low)}, ${signed(row.difference_high)}]`)],
    ...Object.keys(arms[0].figures).map((name) => [name, (row) => row.figures[name]]),
  ];
  const name = (row) => (row.arm === "front" ? `trial ${row.trial}` : row.arm);
  $("#nepisodes").textContent = `${played.n} episodes that no trial played`;
  $("#played thead").replaceChildren(element("tr", {}, ...["", ...arms.map(name)].map((textContent) => element("th", { textContent }))));
  $("#played tbody").replaceChildren(...lines.map(([head, of]) => element("tr", {},
    element("th", { textContent: head }), ...arms.map((row) => element("td", { textContent: told(of(row)) })))));
  const { id, uri, why } = played.film;
  $("#filmed").textContent = uri ? `Episode ${id}, played by ${name(arms[1])}: half a second a decision, patches that do not enter the last layer are dark.` : `No film: ${why}`;
  $("#film").hidden = !uri;
  if (uri) $("#film").src = uri;
}

function drawImportance() {
  const rows = study().importance.filter((row) => row.score !== null || row.cost !== null).reverse();
  $("#noimportance").textContent = rows.length ? "" : "Too few trials that differ in one setting that all have.";
  $("#importance").hidden = !rows.length;
  if (!rows.length) return;
  const bar = (key, name, colour) => ({
    type: "bar", orientation: "h", name, x: rows.map((row) => row[key]), y: rows.map((row) => short(row.parameter)),
    marker: { color: colour }, hovertemplate: `%{y}: %{x:.3f}<extra>${name}</extra>`,
  });
  const place = sized($("#importance"), "height", `${90 + 34 * rows.length}px`);
  draw(place, [bar("cost", "for a low cost", look("soft")), bar("score", "for a high score", colourOf(chosen.study))], {
    barmode: "group", xaxis: axis({ rangemode: "tozero" }), yaxis: axis({ showgrid: false }),
    legend: { ...legend(), traceorder: "reversed" }, showlegend: true,
    margin: { l: 20, r: 14, t: 30, b: 30 },
  });
}

// Numbers as they are, words by their place among all words.
function dimension(trials, name) {
  const values = trials.map((trial) => plain(trial.settings[name]));
  if (values.every((value) => typeof value === "number")) return { label: short(name), values };
  const words = [...new Set(values.map(String))].sort();
  const places = words.map((_, place) => place);
  return { label: short(name), values: values.map((value) => words.indexOf(String(value))), tickvals: places, ticktext: words };
}

function drawParallel() {
  const one = study();
  const trials = measuredTrials(one);
  const shared = one.parameters.filter((name) => trials.every((trial) => name in trial.settings));
  const enough = trials.length > 1 && shared.length > 0;
  const rest = one.parameters.length - shared.length;
  $("#noparallel").textContent = !enough ? "Too few trials within the bound."
    : rest ? `${rest} settings that not every trial has are left out.` : "";
  $("#parallel").hidden = !enough;
  if (!enough) return;
  const dimensions = shared.map((name) => dimension(trials, name));
  dimensions.push({ label: one.cost.name, values: trials.map(cost) }, { label: "score", values: trials.map(score) });
  const place = sized($("#parallel"), "minWidth", `${110 * dimensions.length}px`);
  const line = { color: trials.map(score), colorscale: scale(), showscale: true, colorbar: { title: { text: "score" }, thickness: 12 } };
  draw(place, [{ type: "parcoords", dimensions, line, labelangle: -12, unselected: { line: { color: look("line") } } }], {
    margin: { l: 50, r: 30, t: 70, b: 20 },
  });
}

function drawSlices() {
  const trials = measuredTrials(study());
  const order = study().importance.map((row) => row.parameter);
  const rank = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  const names = [...study().parameters].sort((a, b) => rank(a) - rank(b)).slice(0, MOST_SLICES);
  const place = $("#slices");
  while (place.children.length > names.length) {
    Plotly.purge(place.lastChild);
    place.lastChild.remove();
  }
  while (place.children.length < names.length) place.append(element("div"));
  const colours = { cmin: Math.min(...trials.map(cost)), cmax: Math.max(...trials.map(cost)) };
  names.forEach((name, i) => {
    const having = trials.filter((trial) => name in trial.settings);
    const marker = { size: 6, color: having.map(cost), colorscale: scale(), ...colours };
    const value = (trial) => plain(trial.settings[name]);
    const trace = points(having, chosen.study, value, score, { marker });
    const here = having.find((trial) => trial.trial === chosen.trial);
    draw(place.children[i], here ? [trace, ring(value(here), here.score)] : [trace], {
      xaxis: titled(short(name)), yaxis: axis(), showlegend: false, margin: { l: 36, r: 8, t: 8, b: 40 },
    });
  });
}

// ---- the chosen trial

function facts(rows) {
  const shown = Object.entries(rows).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return element("table", {}, ...shown.map(([name, value]) =>
    element("tr", {}, element("th", { textContent: name }), element("td", { textContent: told(value) }))));
}

function drawPoint() {
  const place = $("#point");
  const one = study();
  const trial = trialOf(one, chosen.trial);
  if (!trial) {
    place.replaceChildren(element("p", { className: "note", textContent: "Click a point of a figure, or a row of the table." }));
    return;
  }
  const report = one.report.find((row) => row.trial === trial.trial);
  const badge = trial.front ? "on the front" : trial.feasible ? "beaten" : trial.state;
  const head = element("h2", {}, labelled(one.name, `trial ${trial.trial}`));
  head.append(element("span", { className: `badge${trial.front ? " front" : ""}`, textContent: badge }));
  const numbers = {
    [one.cost.name]: trial.cost, "FLOPs ratio": one.cost.name === "flops_ratio" ? null : trial.flops_ratio,
    [`score, tune split`]: trial.score,
    "score, report split": report && report.score !== null ? `${told(report.score)} [${told(report.low)}, ${told(report.high)}]` : null,
    "answers as unpruned": report?.loyalty, "mean visual tokens": trial.notes.mean_tokens,
    "takes over the answers of trial": trial.notes.same_as, baseline: trial.notes.baseline, seconds: trial.seconds, why: trial.why,
  };
  place.replaceChildren(
    head, facts(numbers), element("h3", { textContent: "Settings" }), facts(settingsOf(trial)),
    ...keptCurve(one.kept[trial.trial]), ...kindsChart(one, trial, report), ...patches(one, trial), ...file(one, trial),
  );
  place.querySelectorAll(".later").forEach((chart) => chart.drawn());
}

function later(height, drawn) {
  const chart = element("div", { className: "later", drawn: () => drawn(chart) });
  chart.style.height = `${height}px`;
  return chart;
}

function keptCurve(kept) {
  const title = element("h3", { textContent: "Visual tokens entering each layer" });
  if (!kept) return [title, element("p", { className: "note", textContent: "not noted: it was never planned, or by an earlier version" })];
  const layers = kept.mean.map((_, layer) => layer);
  const colour = colourOf(chosen.study);
  const line = (y, more) => ({ type: "scatter", mode: "lines", x: layers, y, ...more });
  const thin = { shape: "hv", width: 0 };
  return [title, later(190, (place) => draw(place, [
    line(kept.least, { line: thin, hoverinfo: "skip" }),
    line(kept.most, { line: thin, fill: "tonexty", fillcolor: `${colour}33`, hoverinfo: "skip" }),
    line(kept.mean, { line: { shape: "hv", color: colour, width: 2 }, hovertemplate: "layer %{x}: %{y:.3f}<extra></extra>" }),
  ], {
    showlegend: false, xaxis: titled("layer"), yaxis: titled("fraction kept", { range: [0, 1.03] }),
    margin: { l: 44, r: 6, t: 6, b: 36 },
  })), element("p", { className: "note", textContent: "mean over the tune split's samples; the band is from the least to the most" })];
}

function kindsChart(one, trial, report) {
  const unpruned = one.report.find((row) => row.arm === "unpruned");
  const names = [...new Set([trial, report, unpruned].flatMap((row) => Object.keys(row?.kinds ?? {})))].reverse();
  if (!names.length || trial.score === null) return [];
  const values = (row) => names.map((name) => row?.kinds[name] ?? null);
  const bar = (row, name, colour) => ({
    type: "bar", orientation: "h", name, y: names, x: values(row), marker: { color: colour },
    hovertemplate: `%{y}: %{x:.3f}<extra>${name}</extra>`,
  });
  const traces = [bar(trial, "tune", look("soft"))];
  if (report) traces.unshift(bar(report, "report", colourOf(chosen.study)));
  if (unpruned) {
    const marker = { symbol: "line-ns-open", size: 12, color: look("text"), line: { width: 2 } };
    traces.push({ type: "scatter", mode: "markers", name: "unpruned, report", y: names, x: values(unpruned), marker,
      hovertemplate: "%{y}: %{x:.3f}<extra>unpruned</extra>" });
  }
  return [element("h3", { textContent: "Score by kind" }), later(60 + 26 * names.length, (place) => draw(place, traces, {
    barmode: "group", bargap: 0.25, xaxis: axis({ rangemode: "tozero" }), yaxis: axis({ showgrid: false }), showlegend: true,
    legend: legend(), margin: { l: 10, r: 6, t: 24, b: 24 },
  }))];
}

// A token goes once and for all, so one number says which layers it enters: the first so many.
function patches(one, trial) {
  const title = element("h3", { textContent: "Kept patches" });
  const depths = one.patches?.depths?.[trial.trial];
  if (!depths) {
    const why = one.patches?.why ?? one.patches?.whys?.[trial.trial] ?? "drawn at a study's end, of those points of the front that are measured on the report split, and of its knee";
    return [title, element("p", { className: "note", textContent: why })];
  }
  const { samples, layers } = one.patches;
  chosen.sample %= samples.length;
  chosen.layer ??= Math.floor(layers / 2);
  const canvas = element("canvas", { className: "picture", width: 448, height: 448 });
  const words = element("span", { className: "note" });
  const question = element("p", { className: "note" });
  const slider = element("input", { type: "range", min: 0, max: layers - 1, value: chosen.layer, ariaLabel: "layer" });
  const picture = new Image();
  const paint = () => {
    const { rows, columns } = samples[chosen.sample];
    const pen = canvas.getContext("2d");
    canvas.height = Math.round((canvas.width * picture.naturalHeight) / picture.naturalWidth) || canvas.width;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
    pen.fillStyle = "rgba(0, 0, 0, 0.78)";
    const [width, height] = [canvas.width / columns, canvas.height / rows];
    depths[chosen.sample].forEach((depth, i) => {
      if (depth <= chosen.layer) pen.fillRect((i % columns) * width, Math.floor(i / columns) * height, width, height);
    });
    const n = depths[chosen.sample].filter((depth) => depth > chosen.layer).length;
    words.textContent = `layer ${chosen.layer}: ${n} of ${rows * columns}`;
  };
  const open = () => {
    const sample = samples[chosen.sample];
    question.textContent = `${sample.kind}: ${sample.question} ${sample.answer ? `(${sample.answer})` : ""}`;
    picture.src = sample.picture;
  };
  picture.onload = paint;
  slider.oninput = () => { chosen.layer = Number(slider.value); paint(); };
  const next = element("button", { type: "button", textContent: `next of ${samples.length} samples` });
  next.onclick = () => { chosen.sample = (chosen.sample + 1) % samples.length; open(); };
  open();
  return [title, canvas, element("div", { className: "row" }, slider, words), question, next];
}

function file(one, trial) {
  const title = element("h3", { textContent: "Pruner file" });
  const text = one.files[trial.trial];
  if (!text) {
    const words = trial.feasible ? `autoprune export ${one.name} --pick ${trial.trial}` : "only trials within the bound have one";
    return [title, element("p", { className: "note", textContent: words })];
  }
  const copy = element("button", { type: "button", textContent: "copy the YAML", id: "copy" });
  const pre = element("pre", { textContent: text });
  copy.onclick = () => copied(text, pre, copy);
  return [title, copy, pre];
}

async function copied(text, pre, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not for pages of a file, in some browsers
    getSelection().selectAllChildren(pre);
    document.execCommand("copy");
  }
  button.textContent = "copied";
}

// ---- tables

function columns() {
  const one = study();
  const fixed = [["trial", (t) => t.trial], ["state", (t) => t.state], [one.cost.name, cost]];
  if (one.cost.name !== "flops_ratio") fixed.push(["flops_ratio", (t) => t.flops_ratio]);
  fixed.push(["score", score], ["front", (t) => (t.front ? "yes" : "")], ["seconds", (t) => t.seconds]);
  const settings = one.parameters.map((name) => [short(name), (t) => plain(t.settings[name]) ?? null]);
  return [...fixed, ...settings, ["why", (t) => t.why]];
}

const AMONG = { all: () => true, front: (t) => t.front, feasible: (t) => t.feasible, others: (t) => t.why !== null };

function ordered(a, b) {
  if (a === null || b === null || a === undefined || b === undefined) return (a ?? null) === (b ?? null) ? 0 : (a ?? null) === null ? 1 : -1;
  return (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b))) * (chosen.down ? -1 : 1);
}

function drawTable() {
  const heads = columns();
  const value = (heads.find(([name]) => name === chosen.sort) ?? heads[0])[1];
  const wanted = $("#filter").value.toLowerCase();
  const rows = study().trials.filter(AMONG[$("#among").value])
    .filter((trial) => !wanted || heads.some(([, of]) => told(of(trial)).toLowerCase().includes(wanted)))
    .sort((a, b) => ordered(value(a), value(b)));
  const shown = chosen.all ? rows : rows.slice(0, MOST_ROWS);
  const arrow = (name) => (name === chosen.sort ? (chosen.down ? " ▼" : " ▲") : "");
  $("#trials thead").replaceChildren(element("tr", {}, ...heads.map(([name]) =>
    element("th", { textContent: name + arrow(name), onclick: () => sortBy(name) }))));
  $("#trials tbody").replaceChildren(...shown.map((trial) => element(
    "tr", { className: trial.trial === chosen.trial ? "chosen" : "", onclick: () => choose(chosen.study, trial.trial, true) },
    ...heads.map(([name, of]) => element("td", { textContent: told(of(trial)), className: name === "why" ? "why" : "" })),
  )));
  $("#nrows").textContent = `${rows.length} of ${study().trials.length}`;
  $("#more").hidden = shown.length === rows.length;
  $("#more").textContent = `show all ${rows.length}`;
}

function sortBy(name) {
  chosen.down = chosen.sort === name && !chosen.down;
  chosen.sort = name;
  drawTable();
}

function drawRefused() {
  const rows = study().trials.filter(AMONG.others);
  const few = rows.slice(0, 20);
  $("#nrefused").textContent = `${rows.length} of ${study().trials.length} trials`;
  $("#refused").replaceChildren(...few.map((trial) => element("li", {},
    element("button", { type: "button", textContent: `trial ${trial.trial}`, onclick: () => choose(chosen.study, trial.trial, true) }),
    `${trial.state}: ${trial.why}`)));
  if (rows.length > few.length) $("#refused").append(element("li", { textContent: `${rows.length - few.length} more in the table below` }));
}

// ---- all of it

function drawHead() {
  const names = page.studies.map((one) => one.name);
  document.title = `${names.join(", ")}: autoprune`;
  $("#title").textContent = names.join(", ");
  const states = page.studies.map((one) => {
    const under = one.running ? `, ${one.running} under way` : "";
    return labelled(one.name, `${one.ended}${one.wanted ? ` of ${one.wanted}` : ""} trials${under}; ${one.left_out}`);
  });
  $("#state").replaceChildren(...states.map((state) => element("div", { textContent: state })));
  $("#facts").textContent = Object.entries(study().facts).map(([name, value]) => `${name} ${value}`).join(" · ");
  $("#which").hidden = names.length < 2;
  $("#study").replaceChildren(...names.map((name, index) => element("option", { value: index, textContent: name })));
  $("#study").value = chosen.study;
}

function choose(index, trial, byHand = false) {
  const isSame = index === chosen.study;
  Object.assign(chosen, { study: index, trial, ...(isSame ? {} : { all: false, layer: null }) });
  history.replaceState(null, "", `#${new URLSearchParams({ study: study().name, trial: trial ?? "" })}`);
  if (!isSame) drawStudy();
  drawChoice();
  if (byHand && isNarrow()) $("#point").scrollIntoView({ behavior: "smooth" });
}

function drawChoice() {
  for (const part of [drawTune, drawReport, drawPoint, drawSlices, drawTable]) part();
}

function drawStudy() {
  for (const part of [drawHead, drawEpisodes, drawImportance, drawParallel, drawRefused]) part();
}

function drawAll() {
  drawStudy();
  drawChoice();
}

function begin() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const index = page.studies.findIndex((one) => one.name === wanted.get("study"));
  chosen.study = Math.max(index, 0);
  const number = Number(wanted.get("trial") || NaN);
  chosen.trial = trialOf(study(), number) ? number : study().knee;
  recall();
  theme();
  $("#theme").onclick = () => {
    remember((themed + 1) % THEMES.length);
    theme();
    drawAll();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { theme(); drawAll(); });
  $("#study").onchange = () => choose(Number($("#study").value), page.studies[$("#study").value].knee);
  $("#filter").oninput = drawTable;
  $("#among").onchange = drawTable;
  $("#more").onclick = () => { chosen.all = true; drawTable(); };
  drawAll();
  if (page.refresh === "fetch") setTimeout(refetch, FETCH_SECONDS * 1000);
  if (page.refresh === "reload") setInterval(reload, RELOAD_SECONDS * 1000);
}

function reload() { // the choice stands in the address; what is being typed does not
  if (!document.hidden && document.activeElement !== $("#filter") && !$("#filter").value) location.reload();
}

async function refetch() {
  try {
    const answer = await fetch(`data.json?mark=${page.mark}`);
    if (answer.status === 200) { // 204: as it was
      page = await answer.json();
      chosen.trial ??= study().knee;
      drawAll();
    }
  } catch { // the server has ended: what is shown stays
  }
  setTimeout(refetch, FETCH_SECONDS * 1000);
}

begin();
