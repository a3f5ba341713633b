// Draws the page from the data below. No part of it asks for anything outside this file.
"use strict";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const reduce = (pick) => (values) => values.reduce((a, b) => pick(a, b));
function short(v) {
  if (v === null || v === undefined) return "–";
  if (typeof v !== "number") return String(v);
  if (v && (Math.abs(v) >= 1e7 || Math.abs(v) < 1e-4)) return v.toExponential(3).replace(/\.?0*e\+?/, "e");
  return String(Number.isInteger(v) ? v : +v.toPrecision(4));
}
const VIRIDIS = "Viridis";

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// Charts are drawn when they come near the view, and again when the colours change.

const charts = new Map();
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) { near.unobserve(target); draw(target); }
}, { rootMargin: "400px" });

function draw(node) {
  const { build, height, after } = charts.get(node);
  const { data, layout = {}, config = {} } = build();
  const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), automargin: true, exponentformat: "e" };
  const full = {
    height, margin: { l: 56, r: 16, t: 12, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("ink"), size: 12 }, showlegend: false,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, hovermode: "closest", ...layout,
  };
  for (const name of Object.keys(layout).filter((n) => /^[xy]axis/.test(n)).concat(["xaxis", "yaxis"]))
    full[name] = { ...axis, ...(layout[name] || {}) };
  Plotly.react(node, data, full, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"], ...config })
    .then(() => { node.dataset.drawn = "yes"; if (after) after(node); });
}

function chart(build, { height = 320, after = null, label = "" } = {}) {
  const node = element("div", { class: "chart", role: "img", "aria-label": label, style: `height:${height}px` });
  charts.set(node, { build, height, after });
  near.observe(node);
  return node;
}

const redraw = (node) => { if (node.dataset.drawn) draw(node); };

addEventListener("beforeprint", () => {
  for (const node of charts.keys()) if (!node.dataset.drawn) draw(node);
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const node of charts.keys()) redraw(node);
});

function section(title, note, ...children) {
  const body = children.filter(Boolean);
  return body.length ? element("section", {}, element("h2", {}, title), ...(note ? [element("p", { class: "note" }, note)] : []), ...body) : "";
}

// The levels of a column: its distinct values in order, or bins of neighbours where they are many.

function levelsOf(values, most = 20) {
  const numeric = values.every((v) => v === null || typeof v === "number");
  const distinct = [...new Set(values.filter((v) => v !== null))].sort((a, b) => (numeric ? a - b : String(a).localeCompare(String(b), "en", { numeric: true })));
  const place = new Map(distinct.map((v, i) => [v, i]));
  if (distinct.length <= most) return { labels: distinct.map(short), of: values.map((v) => (v === null ? -1 : place.get(v))), numeric, distinct };
  const bins = 12, of = values.map((v) => (v === null ? -1 : Math.floor((place.get(v) * bins) / distinct.length)));
  const labels = Array.from({ length: bins }, (_, b) => "≈" + short(+distinct[Math.floor(((b + 0.5) * distinct.length) / bins)].toPrecision(2)));
  return { labels: numeric ? labels : labels.map((_, b) => `names ${b + 1}`), of, numeric, distinct };
}

function select(options, chosen, onchange, label) {
  const node = element("select", { "aria-label": label, onchange: () => onchange(node.value) });
  for (const option of options) node.append(element("option", option === chosen ? { selected: "" } : {}, option));
  return node;
}

// Parts of a sweep

function makeSweep(run) {
  const { names, columns } = run.table;
  const column = Object.fromEntries(names.map((n, i) => [n, columns[i]]));
  const count = columns[0].length;
  const accuracy = column.val_accuracy;
  const diverged = column.status.map((s) => s.startsWith("diverged"));
  return { run, names, columns, column, count, accuracy, diverged, axes: run.axes.map((a) => a.name), brushed: null };
}

function axisCharts(sweep) {
  const anyBad = sweep.diverged.some(Boolean);
  return element("div", { class: "small" }, ...sweep.run.axes.map((axis) => element("div", {}, element("h3", {}, axis.name), chart(() => {
    const levels = axis.levels.filter((l) => l.best !== undefined && l.best !== null);
    const x = levels.map((l) => l.x), bad = axis.levels.filter((l) => l.diverged);
    const data = [
      { x: axis.points.map((p) => p[0]), y: axis.points.map((p) => p[1]), mode: "markers", name: "a setting", marker: { size: 4, color: colour("soft"), opacity: 0.45 }, hoverinfo: "skip" },
      { x, y: levels.map((l) => l.mean), mode: "lines", name: "mean of all", line: { color: colour("soft"), dash: "dot", width: 1.5 } },
      { x, y: levels.map((l) => l.best), mode: "lines+markers", name: "best setting, ± 95 % over seeds", marker: { size: 8, color: colour("blue") }, line: { color: colour("blue") },
        error_y: { type: "data", symmetric: false, array: levels.map((l) => (l.high === null ? 0 : l.high - l.best)), arrayminus: levels.map((l) => (l.low === null ? 0 : l.best - l.low)), thickness: 1.5 },
        text: levels.map((l) => `${axis.name} ${l.label}: best ${short(l.best)} (${l.n} seed${l.n > 1 ? "s" : ""}), ${l.diverged} of ${l.runs} diverged`), hoverinfo: "text" },
    ];
    if (anyBad) data.push({ x: bad.map((l) => l.x), y: bad.map(() => 0), yaxis: "y2", mode: axis.levels.length > 8 ? "markers" : "markers+text", name: "diverged, of all",
      marker: { symbol: "x", size: 7, color: colour("orange") }, text: bad.map((l) => `${l.diverged}/${l.runs}`), textposition: "top center", textfont: { size: 10 }, cliponaxis: false, hoverinfo: "text" });
    const ticks = axis.levels.length <= 12 || !axis.numeric ? { tickvals: axis.levels.map((l) => l.x), ticktext: axis.levels.map((l) => l.label) } : {};
    return { data, layout: { xaxis: { type: axis.log ? "log" : "linear", anchor: "free", position: 0, ...ticks }, yaxis: { title: { text: "validation accuracy" }, domain: [anyBad ? 0.16 : 0, 1] },
      yaxis2: { domain: [0, 0.1], visible: false, range: [-1, 1] }, margin: { l: 56, r: 12, t: 8, b: 36 } } };
  }, { height: 270, label: `validation accuracy over ${axis.name}` }))));
}

function heatMaps(sweep) {
  const { axes, column, accuracy, diverged, run } = sweep;
  if (axes.length < 2) return "";
  const ranked = run.importance ? run.importance.shares.map((s) => s[0]).filter((n) => axes.includes(n)) : axes;
  const state = { x: ranked[0], y: ranked[1] };
  const cells = () => {
    const x = levelsOf(column[state.x]), y = levelsOf(column[state.y]);
    const grid = (fill) => y.labels.map(() => x.labels.map(fill));
    const best = grid(() => null), all = grid(() => 0), bad = grid(() => 0);
    for (let i = 0; i < sweep.count; i++) {
      const a = x.of[i], b = y.of[i];
      if (a < 0 || b < 0) continue;
      all[b][a]++;
      if (diverged[i]) bad[b][a]++;
      else if (accuracy[i] !== null && (best[b][a] === null || accuracy[i] > best[b][a])) best[b][a] = accuracy[i];
    }
    return { x, y, best, all, bad };
  };
  const map = (kind) => chart(() => {
    const { x, y, best, all, bad } = cells();
    const share = bad.map((row, j) => row.map((n, i) => (all[j][i] ? n / all[j][i] : null)));
    const z = kind === "best" ? best : share;
    const text = z.map((row, j) => row.map((v, i) => (!all[j][i] ? "" : kind === "best" ? (v === null ? "✕" : v.toFixed(3)) : `${bad[j][i]}/${all[j][i]}`)));
    const label = kind === "best" ? "best accuracy" : "share diverged";
    return { data: [{ type: "heatmap", z, x: x.labels, y: y.labels, text, texttemplate: x.labels.length <= (innerWidth < 600 ? 6 : 12) ? "%{text}" : "", xgap: 2, ygap: 2, colorscale: kind === "best" ? VIRIDIS : [[0, colour("card")], [1, colour("orange")]],
      ...(kind === "best" ? {} : { zmin: 0, zmax: 1 }), colorbar: { thickness: 10, title: { text: label, side: "right" } }, hovertemplate: `${state.x} %{x}<br>${state.y} %{y}<br>%{text}<extra></extra>` }],
      layout: { xaxis: { type: "category", title: { text: state.x } }, yaxis: { type: "category", title: { text: state.y } } } };
  }, { height: 360, label: `heat map: ${kind}` });
  const shown = [map("best"), ...(diverged.some(Boolean) ? [map("diverged")] : [])];
  const choose = (side) => select(axes, state[side], (value) => { state[side] = value; shown.forEach(redraw); }, `${side} axis of the maps`);
  const titles = ["Best validation accuracy of each pair (✕: all diverged)", "Where runs diverge: diverged / all"];
  return element("div", {}, element("div", { class: "tools", id: "map-axes" }, "across", choose("x"), "up", choose("y")),
    element("div", { class: "pair" }, ...shown.map((node, i) => element("div", {}, element("h3", {}, titles[i]), node))));
}

function fanChart(run) {
  const { curves, best } = run.fan;
  const join = (list, key) => list.flatMap((c) => [...c[key], null]);
  return chart(() => {
    const ok = curves.filter((c) => !c.diverged && c.id !== best), bad = curves.filter((c) => c.diverged);
    const ends = bad.filter((c) => c.x.length), top = curves.find((c) => c.id === best);
    const unseen = bad.length - ends.length;
    const data = [
      { x: join(ok, "x"), y: join(ok, "y"), mode: ok.some((c) => c.x.length < 2) ? "lines+markers" : "lines", marker: { size: 3 }, name: `finite (${ok.length})`, line: { color: colour("soft"), width: 1 }, opacity: Math.max(0.2, Math.min(0.7, 30 / curves.length)), hoverinfo: "skip" },
      { x: join(bad, "x"), y: join(bad, "y"), mode: "lines", showlegend: false, line: { color: colour("orange"), width: 1, dash: "dash" }, opacity: 0.6, hoverinfo: "skip" },
    ];
    if (bad.length) data.push({ x: ends.map((c) => c.x[c.x.length - 1]), y: ends.map((c) => c.y[c.y.length - 1]), mode: "markers", name: `diverged (${bad.length}${unseen ? `, ${unseen} before any value` : ""})`,
      marker: { symbol: "x", size: 8, color: colour("orange") }, text: ends.map((c) => `id ${c.id} diverged at step ${c.at}`), hoverinfo: "text" });
    if (top) data.push({ x: top.x, y: top.y, mode: "lines+markers", name: `best (id ${best})`, line: { color: colour("blue"), width: 3 }, marker: { size: 6 } });
    return { data, layout: { showlegend: true, xaxis: { title: { text: "step" } }, yaxis: { title: { text: "validation accuracy" } } } };
  }, { height: 380, label: "learning curves of all configurations" });
}

function parallel(sweep, onbrush) {
  const { column, accuracy, diverged, axes, count } = sweep;
  const worst = accuracy.filter((v) => v !== null).reduce((a, b) => Math.min(a, b), 1);
  const shown = accuracy.map((v, i) => (diverged[i] || v === null ? worst : v));
  const build = () => {
    const dimensions = axes.map((name) => {
      const levels = levelsOf(column[name]);
      if (levels.distinct.length <= 20) return { label: name, values: levels.of, tickvals: levels.labels.map((_, i) => i), ticktext: levels.labels, range: [-0.3, levels.labels.length - 0.7] };
      if (!levels.numeric) return { label: name, values: levels.of };
      const spread = sweep.run.axes.find((a) => a.name === name).log;
      const values = column[name].map((v) => (v === null ? NaN : spread ? Math.log10(v) : v));
      if (!spread) return { label: name, values };
      const low = Math.floor(Math.log10(levels.distinct[0])), high = Math.ceil(Math.log10(levels.distinct[levels.distinct.length - 1]));
      const tickvals = Array.from({ length: high - low + 1 }, (_, i) => low + i);
      return { label: name, values, tickvals, ticktext: tickvals.map((t) => `1e${t}`) };
    });
    const kinds = ["diverged", "cut", "stopped", "ok"];
    const kind = column.status.map((s) => kinds.indexOf(s.split("@")[0]));
    if (new Set(kind).size > 1) dimensions.push({ label: "status", values: kind, tickvals: [0, 1, 2, 3].filter((k) => kind.includes(k)), ticktext: kinds.filter((_, k) => kind.includes(k)), range: [-0.2, 3.2] });
    dimensions.push({ label: "validation accuracy", values: shown });
    return { data: [{ type: "parcoords", line: { color: shown, colorscale: VIRIDIS, showscale: false }, dimensions, labelfont: { size: 12 }, unselected: { line: { opacity: 0.05 } } }], layout: { margin: { l: 60, r: 80, t: 50, b: 20 } } };
  };
  const after = (node) => {
    if (node.dataset.brush) return;
    node.dataset.brush = "on";
    node.on("plotly_restyle", () => {
      const held = node.data[0].dimensions.filter((d) => d.constraintrange);
      const inside = (d, v) => { const c = d.constraintrange; return (Array.isArray(c[0]) ? c : [c]).some(([a, b]) => v >= a && v <= b); };
      onbrush(held.length ? new Set(Array.from({ length: count }, (_, i) => i).filter((i) => held.every((d) => inside(d, d.values[i])))) : null);
    });
  };
  const node = chart(build, { height: 400, after, label: "parallel coordinates" });
  node.classList.add("parallel");
  return node;
}

function table(sweep) {
  const { names, columns, column, count, run } = sweep;
  const state = { sort: names.indexOf("val_accuracy"), down: true, filter: "", page: 0 }, per = 25;
  const best = run.best ? run.best.id : null;
  const head = element("tr"), body = element("tbody"), said = element("span", { id: "count" });
  const test = (text) => {
    const term = text.match(/^([\w ]+?)(>=|<=|>|<|=)(.+)$/);
    if (!term || !names.includes(term[1])) return (i) => columns.some((c) => short(c[i]).includes(text));
    const values = column[term[1]], wanted = Number(term[3]);
    const number = (f) => (i) => values[i] !== null && f(values[i], wanted);
    if (term[2] === "=") return (i) => (Number.isNaN(wanted) || typeof values[i] !== "number" ? short(values[i]).startsWith(term[3]) : values[i] === wanted);
    return number({ ">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b }[term[2]]);
  };
  function show() {
    const tests = state.filter.split(/\s+/).filter(Boolean).map(test), values = columns[state.sort], sign = state.down ? -1 : 1;
    const rows = Array.from({ length: count }, (_, i) => i).filter((i) => (!sweep.brushed || sweep.brushed.has(i)) && tests.every((t) => t(i)));
    rows.sort((a, b) => { // what is missing is last, either way
      const [u, v] = [values[a], values[b]];
      if (u === null || v === null) return (u === null) - (v === null) || a - b;
      return sign * (u < v ? -1 : u > v ? 1 : 0) || a - b;
    });
    const pages = Math.max(1, Math.ceil(rows.length / per));
    state.page = Math.max(0, Math.min(state.page, pages - 1));
    said.textContent = `${rows.length.toLocaleString("en")} of ${count.toLocaleString("en")}, page ${state.page + 1} of ${pages}`;
    head.replaceChildren(...names.map((n, k) => {
      const arrow = k === state.sort ? (state.down ? " ▼" : " ▲") : "";
      return element("th", { "aria-sort": k === state.sort ? (state.down ? "descending" : "ascending") : "none" },
        element("button", { onclick: () => { if (state.sort === k) state.down = !state.down; else Object.assign(state, { sort: k, down: n.endsWith("accuracy") }); show(); } }, n.replaceAll("_", " ") + arrow));
    }));
    body.replaceChildren(...rows.slice(state.page * per, (state.page + 1) * per).map((i) =>
      element("tr", { class: column.id[i] === best ? "best" : sweep.diverged[i] ? "diverged" : "" }, ...columns.map((c, k) => element("td", {}, short(c[i]) + (k === 0 && c[i] === best ? " ★" : ""))))));
  }
  const input = element("input", { id: "filter", placeholder: "filter: learning_rate>1e-3 status=ok", "aria-label": "filter the table", oninput: () => { Object.assign(state, { filter: input.value, page: 0 }); show(); } });
  const turn = (by, text, label) => element("button", { "aria-label": label, onclick: () => { state.page += by; show(); } }, text);
  show();
  return { show, node: element("div", {}, element("div", { class: "tools" }, input, turn(-1, "‹", "page before"), turn(1, "›", "next page"), said),
    element("div", { class: "scroll" }, element("table", { id: "table" }, element("thead", {}, head), body))) };
}

function rungChart(run) {
  return chart(() => {
    const points = (key) => ({ x: run.rungs.flatMap((r) => r[key].map(() => r.step)), y: run.rungs.flatMap((r) => r[key].map((v) => v ?? 0)) });
    return { data: [
      { ...points("cut"), mode: "markers", name: "cut here", marker: { symbol: "x", size: 6, color: colour("orange"), opacity: 0.6 } },
      { ...points("on"), mode: "markers", name: "went on", marker: { size: 6, color: colour("blue"), opacity: 0.7 } },
    ], layout: { showlegend: true, xaxis: { type: "log", title: { text: "step of the rung" }, tickvals: run.rungs.map((r) => r.step), ticktext: run.rungs.map((r) => `${r.step}<br>${r.on.length + r.cut.length} nets`) }, yaxis: { title: { text: "validation accuracy" } } } };
  }, { height: 340, label: "rungs of the halving" });
}

function topChart(run) {
  return chart(() => {
    const top = run.top.slice().reverse(), y = top.map((t) => t.label + (t.close ? "  ≈" : ""));
    return { data: [
      { x: top.flatMap((t) => t.seeds), y: top.flatMap((t, i) => t.seeds.map(() => y[i])), mode: "markers", name: "a seed", marker: { size: 5, color: colour("soft"), opacity: 0.6 } },
      { x: top.map((t) => t.mean), y, mode: "markers", name: "mean, 95 % interval", marker: { size: 9, color: colour("blue") }, error_x: { type: "data", symmetric: false, array: top.map((t) => (t.high ?? t.mean) - t.mean), arrayminus: top.map((t) => t.mean - (t.low ?? t.mean)) } },
    ], layout: { showlegend: true, xaxis: { title: { text: "validation accuracy" } }, yaxis: { type: "category" } } };
  }, { height: 60 + 26 * run.top.length + 60, label: "best settings over seeds" });
}

function importanceChart(run) {
  return chart(() => {
    const shares = run.importance.shares.slice().reverse();
    return { data: [{ type: "bar", orientation: "h", x: shares.map((s) => s[1]), y: shares.map((s) => s[0]), text: shares.map((s) => `${Math.round(100 * s[1])} %`), textposition: "auto", marker: { color: colour("blue") }, hoverinfo: "skip" }],
      layout: { xaxis: { title: { text: "share" }, range: [0, 1], tickformat: ".0%" }, yaxis: { type: "category" } } };
  }, { height: 80 + 30 * run.importance.shares.length, label: "importance of each hyperparameter" });
}

// Parts of one network

function curveCharts(run, curves) {
  const finite = curves.loss.filter((v) => v !== null && v > 0), log = finite.length && reduce(Math.max)(finite) > 100 * reduce(Math.min)(finite);
  const last = curves.loss.reduce((l, v, i) => (v === null ? l : i), -1), ended = last >= 0 && last < curves.loss.length - 1;
  return element("div", { class: "pair" },
    chart(() => ({ data: [{ x: curves.steps, y: curves.loss, mode: "lines", name: "training loss", line: { color: colour("blue"), width: 1.5 } },
      ...(ended ? [{ x: [curves.steps[last]], y: [curves.loss[last]], mode: "markers", name: "last finite loss", marker: { symbol: "x", size: 11, color: colour("orange") } }] : [])],
      layout: { showlegend: true, xaxis: { title: { text: "step" } }, yaxis: { type: log ? "log" : "linear", title: { text: "loss" } } } }), { height: 300, label: "loss" }),
    chart(() => ({ data: [
      { x: curves.evaluated, y: curves.train, mode: "lines+markers", name: "training", line: { color: colour("blue") } },
      { x: curves.evaluated, y: curves.val, mode: "lines+markers", name: "validation", line: { color: colour("orange"), dash: "dash" }, marker: { symbol: "square" } },
      ...(run.chance && curves.evaluated.length ? [{ x: [0, curves.evaluated[curves.evaluated.length - 1]], y: [run.chance, run.chance], mode: "lines", name: "chance", line: { color: colour("soft"), dash: "dot", width: 1 } }] : []),
    ], layout: { showlegend: true, xaxis: { title: { text: "step" } }, yaxis: { title: { text: "accuracy" } } } }), { height: 300, label: "accuracy" }));
}

function layerCharts(run) {
  const { steps, layers, panels } = run.layers, dashes = ["solid", "dash", "dot", "dashdot", "longdash"];
  return element("div", { class: "small" }, ...panels.map((panel) => element("div", {}, element("h3", {}, panel.title), element("p", { class: "note" }, panel.note), chart(() => {
    const data = panel.series.map((values, k) => ({ x: steps, y: values, name: layers[k] || panel.names?.[k] || `layer ${k + 1}`, mode: "lines+markers", line: { dash: dashes[k % 5], color: `hsl(${205 + 47 * k}, 60%, 50%)` }, marker: { symbol: k } }));
    const shapes = panel.target ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: panel.target, y1: panel.target, line: { dash: "dot", width: 1, color: colour("soft") } }] : [];
    return { data, layout: { showlegend: true, shapes, xaxis: { title: { text: "step" } }, yaxis: { type: panel.log ? "log" : "linear", exponentformat: "power", ...(panel.log ? {} : { range: [-0.03, 1.03] }) } } };
  }, { height: 270, label: panel.title }))));
}

function judgedPart(run) {
  const { names, confusion, mistakes, n } = run.judged;
  const shares = confusion.map((row) => { const all = row.reduce((a, b) => a + b, 0); return row.map((v) => (all ? v / all : null)); });
  const map = chart(() => ({ data: [{ type: "heatmap", z: shares, x: names, y: names, text: confusion, texttemplate: names.length <= 12 ? "%{text}" : "", xgap: 1, ygap: 1, zmin: 0, zmax: 1, colorscale: VIRIDIS, colorbar: { thickness: 10, title: { text: "share of the class", side: "right" } }, hovertemplate: "is %{y}, called %{x}: %{text}<extra></extra>" }],
    layout: { xaxis: { title: { text: "called" }, tickangle: -45 }, yaxis: { title: { text: "is", standoff: 12 }, autorange: "reversed" } } }), { height: 420, label: "confusion matrix" });
  const pictures = element("div", { class: "mistakes" }, ...mistakes.filter((m) => m.image).map((m) => element("figure", {}, element("img", { src: m.image, alt: `a ${m.is} taken for a ${m.said}` }),
    element("figcaption", {}, `${m.is}, called `, element("b", {}, m.said), ` (${Math.round(100 * m.share)}\u00a0%)`))));
  return element("div", { class: "pair" }, element("div", {}, element("h3", {}, `Whom it confuses (${n.toLocaleString("en")} validation images)`), map),
    element("div", {}, element("h3", {}, "Where it is surest and wrong"), pictures));
}

function weightsPart(run) {
  if (!run.weights.length) return "";
  const of = (w) => `${w.shown === w.units ? "all" : w.shown + " of"} ${w.units} units`;
  const picture = (w) => element("img", { class: "pixels", src: w.image, alt: `first-layer weights of network ${w.id} as images` });
  const caption = (w) => element("figcaption", {}, `${w.id === run.best.id ? "the best, " : ""}id ${w.id}: validation accuracy ${short(w.accuracy)}, ${w.label}; ${of(w)}`);
  const [first] = run.weights, many = run.kind === "sweep";
  return element("div", {}, element("h3", {}, "What the first layer looks for"),
    element("p", { class: "note" }, many ? "Weights of each unit as an image, largest norm first; of the best three, those whose networks were kept (--keep 3)." : `Weights of ${of(first)} as images, largest norm first.`),
    many ? element("div", { class: "small" }, ...run.weights.map((w) => element("figure", {}, picture(w), caption(w)))) : picture(first));
}

function findings(run) {
  if (!run.diagnosis.length) return element("div", { class: "finding good" }, "✓ Nothing wrong was found.");
  return element("div", {}, ...run.diagnosis.map((f) => element("div", { class: "finding" }, element("b", {}, "⚠ " + f.name), ": " + f.sentence + " ", element("b", {}, "Try: "), f.change + " ", element("code", {}, `(${f.evidence})`))));
}

const facts = (run) => element("div", { class: "facts" }, ...run.facts.map(([label, text]) => element("div", { class: "fact" }, element("b", {}, text), element("span", {}, label))));

function costs(run) {
  const work = run.work, lines = [];
  if (work && work.training_seconds) {
    lines.push(`Training took ${short(work.training_seconds)} s, of which ${short(work.first_call_seconds)} s were first calls, which compile.`);
    if (work.gflops) lines.push(`Products ran at ${short(work.gflops)} GFLOP/s, ${Math.round((100 * work.gflops) / work.ceiling_gflops)} % of what one large float32 product reaches on this machine (${short(work.ceiling_gflops)} GFLOP/s); evaluations take time and count as no products, and other work on the machine meanwhile distorts both.`);
  }
  return element("div", {}, ...(lines.length ? [element("p", {}, lines.join(" "))] : []), ...(run.plan ? [element("pre", {}, run.plan)] : []));
}

function again(run) {
  const { again: a } = run, pairs = (o) => Object.entries(o).map(([k, v]) => `${k} ${v}`).join(", ");
  return element("div", {}, element("pre", {}, `${a.command}\n\n# or, from what this folder keeps:\n${a.config}`),
    element("p", { class: "note" }, `Started ${a.started} on ${pairs(a.machine)}. Versions: ${pairs(a.versions)}. Data: ${pairs(a.data)}.`),
    element("details", {}, element("summary", {}, "The job, and the settings that all share"), element("pre", {}, a.job), element("pre", {}, run.settings.map(([k, v]) => `${k} = ${v}`).join("\n"))));
}

// Pages

function onePage(run) {
  const curves = run.only || run.best, sweep = run.kind === "sweep" ? makeSweep(run) : null;
  const parts = [facts(run), section("What to know, and what to try", "", findings(run))];
  if (sweep) {
    const rows = table(sweep);
    const clear = element("button", { id: "clear", onclick: () => { sweep.brushed = null; node.removeAttribute("data-brush"); Plotly.purge(node); draw(node); rows.show(); } }, "clear the brush");
    const node = parallel(sweep, (ids) => { sweep.brushed = ids; rows.show(); });
    parts.push(
      run.importance ? section("What mattered", run.importance.method, importanceChart(run)) : "",
      run.axes.length ? section("Accuracy over each hyperparameter", "Line: the best setting at each value, with its 95 % interval where there are several seeds. Dots: all settings; dotted: their mean; ✕: how many diverged.", axisCharts(sweep)) : "",
      run.axes.length > 1 ? section("Any two hyperparameters", "", heatMaps(sweep)) : "",
      run.top ? section("How reliable the winner is", "Settings marked ≈ cannot be told from the first by these seeds.", topChart(run)) : "",
      section("Learning curves of all", run.fan.shown < run.fan.all ? `${run.fan.shown} of ${run.fan.all}, evenly chosen` : "", fanChart(run)),
      run.rungs ? section("Rungs of the halving", "Accuracy of each network where the worst were cut.", rungChart(run)) : "",
      section("All configurations", "Drag along an axis to choose; the table below follows. Diverged runs are drawn at the lowest accuracy.", element("div", { class: "wide" }, node), element("div", { class: "tools" }, clear), rows.node));
  }
  const title = sweep ? `The best network${run.best ? ` (id ${run.best.id})` : ""}` : "The run";
  if (curves) parts.push(section(title, sweep ? run.axes.map((a) => `${a.name} ${curves.settings[a.name] ?? "–"}`).join(", ") : `status ${curves.status}`, curveCharts(run, curves), run.layers ? layerCharts(run) : "", weightsPart(run), run.judged ? judgedPart(run) : ""));
  parts.push(section("Plan, time, throughput", "", costs(run)), section("Run it again", "", again(run)));
  return parts.filter(Boolean);
}

function comparison(runs) {
  const labels = [...new Set(runs.flatMap((r) => r.facts.map((f) => f[0])))];
  const of = (run) => Object.fromEntries(run.facts), settings = (run) => (run.only || run.best || { settings: {} }).settings;
  const names = [...new Set(runs.flatMap((r) => Object.keys(settings(r))))].filter((n) => new Set(runs.map((r) => settings(r)[n])).size > 1);
  const line = (name, values) => element("tr", {}, element("td", {}, name), ...values.map((v) => element("td", {}, v ?? "–")));
  const dashes = ["solid", "dash", "dot", "dashdot", "longdash"];
  const overlay = (x, y, title) => chart(() => ({ data: runs.map((r, k) => ({ r, k, c: r.only || r.best })).filter(({ c }) => c).map(({ r, k, c }) => ({ x: c[x], y: c[y], name: r.name, mode: y === "loss" ? "lines" : "lines+markers", line: { dash: dashes[k % 5], color: `hsl(${205 + 67 * k}, 60%, 50%)` }, marker: { symbol: k } })),
    layout: { showlegend: true, xaxis: { title: { text: "step" } }, yaxis: { title: { text: title } } } }), { height: 340, label: title });
  return [
    section("Side by side", "Facts, and the settings of the best network in which they differ.", element("div", { class: "scroll" }, element("table", { id: "sides" }, element("thead", {}, element("tr", {}, element("th", {}, ""), ...runs.map((r) => element("th", {}, r.name)))),
      element("tbody", {}, ...labels.map((l) => line(l, runs.map((r) => of(r)[l]))), ...names.map((n) => line(n, runs.map((r) => settings(r)[n]))))))),
    section("The best of each", "", element("div", { class: "pair" }, overlay("evaluated", "val", "validation accuracy"), overlay("steps", "loss", "training loss"))),
    section("Each for itself", "", element("div", { class: "pair" }, ...runs.map((r) => element("div", {}, element("h3", {}, r.name), findings(r), r.importance ? importanceChart(r) : "", weightsPart(r), again(r))))),
  ];
}

async function main() {
  const started = performance.now();
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(element("script", {}, await new Response(stream).text()));
  const { title, runs } = JSON.parse(document.getElementById("data").textContent);
  const page = document.getElementById("page");
  page.replaceChildren(element("h1", {}, title), ...(runs.length > 1 ? comparison(runs) : onePage(runs[0])), element("footer", {}, "Made by jaxnet. Everything on this page is in this file."));
  page.dataset.ready = Math.round(performance.now() - started);
}

addEventListener("DOMContentLoaded", main);
