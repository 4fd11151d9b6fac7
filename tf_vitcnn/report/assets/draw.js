// Charts are drawn when they come into view, one after the other, as wide as their place allows.
const shared = JSON.parse(document.getElementById("shared").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const figures = new Map();
const panels = [];
window.drawn = 0;
window.failed = [];

document.querySelectorAll("section.figure").forEach(function (section) {
  const figure = {slug: section.id, section: section, text: "", panels: [], chosen: null};
  figures.set(section.id, figure);
  section.querySelectorAll(".panel").forEach(function (element, index) {
    const panel = {
      figure: figure, element: element, index: index, place: element.querySelector(".chart"), view: null,
      models: JSON.parse(element.dataset.models).flat(), lines: "lines" in element.dataset, width: 0
    };
    figure.panels.push(panel);
    panels.push(panel);
  });
});

// A figure's charts come deflated, a third of their length, and are opened when one of them is wanted.
function unpacked(figure) {
  if (!figure.ready) {
    const text = atob(document.getElementById("spec-" + figure.slug).textContent.trim());
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) { packed[i] = text.charCodeAt(i); } // twenty times as fast as Uint8Array.from
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    figure.ready = new Response(stream).text().then(function (opened) { figure.text = opened; });
  }
  return figure.ready;
}

// The charts' colours on a dark page: each of the theme's for its counterpart.
function tinted(text) {
  if (!dark.matches) { return text; }
  return text.replace(/#[0-9a-f]{6}\b/gi, function (colour) {
    return shared.dark[colour] || shared.dark[colour.toUpperCase()] || shared.dark[colour.toLowerCase()] || colour;
  });
}

function opened(figure) {
  const parts = JSON.parse(tinted(figure.text));
  parts.top.config = JSON.parse(tinted(JSON.stringify(shared.config)));
  return parts;
}

function flat(rows) { return [].concat.apply([], rows); }

function panelSpec(panel) {
  const parts = opened(panel.figure);
  const spec = Object.assign({}, parts.top, flat(parts.rows)[panel.index]);
  spec.config = Object.assign({}, spec.config, {background: "transparent"});
  delete spec.title;
  if (dark.matches) { eachEncoding(spec, lightened); }
  return spec;
}

// A ramp of lines or points begins where it can be told from a dark page.
function lightened(encoding) {
  const scale = encoding.color && encoding.color.scale;
  if (scale && scale.scheme && scale.scheme.extent) { scale.scheme = Object.assign({}, scale.scheme, {extent: shared.extent}); }
}

function unit(spec) { return spec.spec || spec; }
function layersOf(spec) { return unit(spec).layer || [unit(spec)]; }
function isMap(spec) { return Boolean(spec.facet); }
function isMatrix(spec) { return !spec.facet && !spec.layer && (spec.mark.type || spec.mark) === "rect"; }

function eachEncoding(spec, change) {
  layersOf(spec).concat([unit(spec)]).forEach(function (part) { if (part.encoding) { change(part.encoding); } });
}

function withoutLegend(spec) {
  eachEncoding(spec, function (encoding) {
    ["color", "strokeDash", "size"].forEach(function (channel) {
      if (encoding[channel] && typeof encoding[channel] === "object") { encoding[channel].legend = null; }
    });
  });
}

function fitted(spec, width, figure) {
  if (isMatrix(spec)) {
    spec.width = spec.height = Math.max(120, Math.min(Math.floor(width) - 68, 360));
  } else if (isMap(spec)) {
    const inner = spec.spec;
    const rows = rowsOf(spec);
    const wide = inner.width.step ? inner.width.step * rows[0].width : inner.width;
    const labels = rows.reduce(function (most, row) { return Math.max(most, labelWidth(row[spec.facet.field])); }, 0);
    const axes = layersOf(spec).some(function (part) { return part.encoding && part.encoding.x && part.encoding.x.axis !== null && part.encoding.x.field; });
    const room = Math.max(wide + (axes ? 36 : 0), labels) + (spec.spacing || 12);
    spec.columns = Math.max(1, Math.floor((width + 8) / room));
  } else {
    const names = layersOf(spec).some(function (part) { return (part.mark.type || part.mark) === "text"; });
    spec.width = Math.max(130, Math.min(width - 54 - (names ? labelRoom(figure) : 6), 640));
  }
  return spec;
}

// Room for the names at the ends of lines: the same in all panels of a figure, so that their axes have one length.
function labelRoom(figure) {
  if (!figure.room) {
    let longest = 0;
    flat(opened(figure).rows).forEach(function (spec) {
      eachEncoding(spec, function (encoding) {
        const scale = encoding.color && encoding.color.scale;
        (scale && scale.domain || []).forEach(function (name) { longest = Math.max(longest, String(name).length); });
      });
    });
    figure.room = Math.min(120, 8 + 5.8 * longest);
  }
  return figure.room;
}

function labelWidth(text) {
  const lines = String(text).replace(/stage(\d+)\/unit0?(\d+)\//, "s$1.$2 ").split("\n");
  return 5.2 * Math.max.apply(null, lines.map(function (line) { return line.length; }));
}

// The rows of a panel's own data, as its chart gives them.
function rowsOf(spec) {
  const data = spec.data || unit(spec).data || {};
  return data.values || (spec.datasets || {})[data.name] || [];
}

const quiet = {level: function () { return quiet; }, error: function () { return quiet; }, warn: function () { return quiet; },
  info: function () { return quiet; }, debug: function () { return quiet; }};

// A chart in a place, or in none; the promise of its view and of what it was compiled to.
function embed(place, spec, renderer) {
  const options = {mode: "vega-lite", renderer: renderer, actions: false, defaultStyle: false, hover: true, logger: quiet, tooltip: showTip};
  return window.vegaEmbed(place || document.createElement("div"), spec, options);
}

function draw(panel) {
  const width = panel.element.clientWidth;
  if (!width || panel.width === width) { return Promise.resolve(); }
  const first = !panel.width;
  panel.width = width;
  if (panel.view) { panel.view.finalize(); panel.view = null; }
  return unpacked(panel.figure).then(function () {
    panel.spec = hiding(fitted(panelSpec(panel), width, panel.figure), panel);
    withoutLegend(panel.spec);
    return embed(panel.place, panel.spec, "canvas");
  }).then(function (made) {
    panel.view = made.view;
    panel.place.style.minHeight = "0";
    panel.place.querySelectorAll("canvas").forEach(function (canvas) { canvas.removeAttribute("role"); });
    listen(panel);
    if (first) { window.drawn += 1; legend(panel.figure); }
  }).catch(function (error) {
    window.failed.push(panel.figure.slug + " " + panel.index + ": " + error);
    panel.place.textContent = "This chart could not be drawn: " + error;
    console.error(error);
  }).then(function () { document.documentElement.setAttribute("data-drawn", String(window.drawn)); });
}

// What a chart hides from the start.
function hiding(spec, panel) {
  (spec.params || []).forEach(function (param) { if (param.name === "hidden") { param.value = hiddenOf(panel); } });
  return spec;
}

// What is waiting is drawn in the order of the page, with a turn for the browser in between.
const waiting = new Set();
let busy = false;

function want(job) {
  waiting.add(job);
  if (!busy) { busy = true; window.setTimeout(turn, 0); }
}

function turn() {
  const job = waiting.values().next().value;
  if (!job) { busy = false; document.documentElement.setAttribute("data-idle", "true"); return; }
  document.documentElement.removeAttribute("data-idle");
  waiting.delete(job);
  Promise.resolve().then(job).catch(console.error).then(function () { window.setTimeout(turn, 0); }); // one that fails stops no other
}

panels.forEach(function (panel) { panel.job = function () { return draw(panel); }; });
const eyes = new IntersectionObserver(function (seen) {
  seen.forEach(function (entry) { if (entry.isIntersecting) { want(entry.target.job); } });
}, {rootMargin: "400px 0px"});

// Small pictures of figures beside their findings.
document.querySelectorAll(".thumb").forEach(function (link) {
  link.job = function () {
    if (link.firstChild) { return null; }
    const figure = figures.get(link.dataset.figure);
    if (!figure) { return null; }
    return unpacked(figure).then(function () { return thumb(link, figure.panels[Number(link.dataset.panel)] || figure.panels[0]); });
  };
});

function thumb(link, panel) {
  const spec = panelSpec(panel);
  withoutLegend(spec);
  eachEncoding(spec, function (encoding) {
    ["x", "y"].forEach(function (channel) { if (encoding[channel] && !encoding[channel].value) { encoding[channel].axis = null; } });
    delete encoding.tooltip;
  });
  if (isMap(spec)) { oneOf(spec); }
  if (spec.layer) { spec.layer = spec.layer.filter(function (part) { return part.mark.type !== "text" && part.mark.type !== "point"; }); }
  spec.width = spec.layer ? 80 : 62;
  spec.height = 62;
  spec.padding = 1;
  return embed(null, hiding(spec, panel), "none").then(function (made) {
    return made.view.toCanvas(window.devicePixelRatio || 1).then(function (canvas) {
      link.textContent = "";
      link.appendChild(canvas);
      made.view.finalize();
    });
  }).catch(function (error) { window.failed.push("thumb of " + panel.figure.slug + ": " + error); console.error(error); });
}

// Of a chart of small maps the one in the middle.
function oneOf(spec) {
  const rows = rowsOf(spec), field = spec.facet.field;
  const middle = rows[Math.floor(rows.length / 2)];
  const data = {values: rows.filter(function (row) { return row[field] === middle[field]; })};
  Object.assign(spec, spec.spec, {data: data, transform: spec.transform || spec.spec.transform});
  ["facet", "spec", "columns", "spacing", "resolve", "datasets"].forEach(function (name) { delete spec[name]; });
}
