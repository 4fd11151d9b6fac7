// Which networks are shown: the filter hides them everywhere, a figure's legend in that figure alone.
const gone = new Set();
let randomLines = false;
const random = new Set(shared.networks.filter(function (n) { return n.random; }).map(function (n) { return n.name; }));

function hiddenOf(panel) {
  const series = panel.figure.series || [];
  const chosen = panel.figure.chosen;
  if (panel.lines) {
    const trained = panel.models.some(function (name) { return !random.has(name); });
    return panel.models.filter(function (name) {
      if (chosen) { return !chosen.has(name) || gone.has(name); }
      return gone.has(name) || (random.has(name) && trained && !randomLines);
    });
  }
  return chosen ? series.filter(function (name) { return !chosen.has(name); }) : [];
}

function setHidden(panel) {
  if (!panel.view) { return; }
  try { panel.view.signal("hidden", hiddenOf(panel)).runAsync(); } catch (error) { /* a chart that hides nothing */ }
}

function refresh() {
  // networks that stand together, one list for each choice: gone when every choice has lost one
  document.querySelectorAll("[data-models]").forEach(function (element) {
    const away = JSON.parse(element.dataset.models).every(function (models) { return models.some(function (m) { return gone.has(m); }); });
    element.classList.toggle("gone", away);
  });
  document.querySelectorAll(".finding").forEach(function (finding) {
    finding.classList.toggle("gone", !finding.querySelector(".dots li:not(.gone)"));
  });
  document.querySelectorAll(".matrix tbody tr:not(.detail)").forEach(function (row) {
    const away = !row.querySelector("td:not(.gone) .cell");
    row.classList.toggle("gone", away);
    row.nextElementSibling.classList.toggle("gone", away);
  });
  document.querySelectorAll("section.figure").forEach(function (section) {
    section.querySelectorAll(".row").forEach(function (row) { row.classList.toggle("gone", !row.querySelector(".panel:not(.gone)")); });
    const away = !section.querySelector(".panel:not(.gone)");
    section.classList.toggle("gone", away);
  });
  panels.forEach(function (panel) { setHidden(panel); });
  figures.forEach(legendState);
}

document.querySelectorAll(".filter input").forEach(function (box) {
  box.addEventListener("change", function () {
    if (box.id === "randoms") { randomLines = box.checked; } else if (box.checked) { gone.delete(box.value); } else { gone.add(box.value); }
    refresh();
  });
});

// The legend of a figure: a button per line, or the ramp of its colours.
function legend(figure) {
  const panel = figure.panels.find(function (p) { return p.view; });
  const place = figure.section.querySelector(".legend");
  if (!panel || !place || place.firstChild) { return; }
  const coloured = layersOf(panel.spec).concat([unit(panel.spec)]).map(function (part) { return part.encoding && part.encoding.color; })
    .filter(function (c) { return c && c.field; })[0];
  if (!coloured) { place.remove(); return; }
  if (coloured.type === "nominal") { series(figure, place, coloured); } else { ramp(panel, place, coloured); }
}

function series(figure, place, coloured) {
  const scale = figure.panels.find(function (p) { return p.view; }).view.scale("color");
  const dashes = {};
  flat(opened(figure).rows).forEach(function (spec) {
    eachEncoding(spec, function (encoding) {
      const dash = encoding.strokeDash && encoding.strokeDash.scale;
      (dash ? dash.domain : []).forEach(function (name, i) { dashes[name] = dash.range[i]; });
    });
  });
  const names = new Set(), colours = {};
  figure.panels.forEach(function (panel) {
    layersOf(panel.spec || panelSpec(panel)).forEach(function (part) {
      const c = part.encoding && part.encoding.color;
      (c && c.scale && c.scale.domain || []).forEach(function (name, i) { names.add(name); colours[name] = c.scale.range && c.scale.range[i] || scale(name); });
    });
  });
  figure.series = Array.from(names);
  figure.series.forEach(function (name) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.value = name;
    button.innerHTML = '<svg width="20" height="8" aria-hidden="true"><line x1="0" x2="20" y1="4" y2="4" stroke-width="3"/></svg>';
    const line = button.querySelector("line");
    line.setAttribute("stroke", colours[name]);
    if (dashes[name] && dashes[name][1]) { line.setAttribute("stroke-dasharray", dashes[name].join(" ")); }
    button.appendChild(document.createTextNode(name));
    button.addEventListener("click", function (event) { isolate(figure, name, event.shiftKey || event.ctrlKey || event.metaKey); });
    place.appendChild(button);
  });
  legendState(figure);
}

// A click shows one line alone, a second one all again; with shift or control it adds and takes away.
function isolate(figure, name, more) {
  if (more) {
    figure.chosen = new Set(figure.chosen || shownOf(figure));
    if (figure.chosen.has(name)) { figure.chosen.delete(name); } else { figure.chosen.add(name); }
  } else {
    const alone = figure.chosen && figure.chosen.size === 1 && figure.chosen.has(name);
    figure.chosen = alone ? null : new Set([name]);
  }
  figure.panels.forEach(function (panel) { setHidden(panel); });
  legendState(figure);
}

function shownOf(figure) {
  const hidden = new Set(hiddenOf(figure.panels[0]));
  return (figure.series || []).filter(function (name) { return !hidden.has(name); });
}

function legendState(figure) {
  const shown = new Set(shownOf(figure));
  figure.section.querySelectorAll(".legend button").forEach(function (button) {
    button.setAttribute("aria-pressed", String(shown.has(button.dataset.value)));
  });
}

function ramp(panel, place, coloured) {
  if (isMap(panel.spec) && panel.spec.resolve && panel.spec.resolve.scale && panel.spec.resolve.scale.color === "independent") {
    const domain = (coloured.scale || {}).domain;
    place.textContent = (coloured.title || coloured.field) + (domain ? ": dark is " + short(domain[0]) + ", light is " + short(domain[1])
      : ": dark is 0, light is the largest value of each map") + "; each map's own largest is printed above it";
    return;
  }
  const scale = panel.view.scale("color"), domain = scale.domain(), low = domain[0], high = domain[domain.length - 1];
  const log = (coloured.scale || {}).type === "log", stops = [];
  for (let i = 0; i <= 24; i += 1) {
    const share = i / 24;
    stops.push(scale(log ? low * Math.pow(high / low, share) : low + share * (high - low)) + " " + (100 * share).toFixed(0) + "%");
  }
  const bar = document.createElement("span");
  bar.className = "ramp";
  bar.style.background = "linear-gradient(to right, " + stops.join(", ") + ")";
  place.append((coloured.title || coloured.field) + " " + short(low), bar, short(high) + (log ? ", neutral at 1" : ""));
}

function short(value) { return String(Number(value.toPrecision(3))); }

// The matrix: a mark opens the numbers of its claim and shows which are its own.
document.querySelectorAll(".matrix button.cell").forEach(function (button) {
  button.addEventListener("click", function () {
    const detail = document.getElementById(button.getAttribute("aria-controls"));
    const open = button.getAttribute("aria-expanded") !== "true";
    button.closest("tr").querySelectorAll("button.cell").forEach(function (other) { other.setAttribute("aria-expanded", "false"); });
    button.setAttribute("aria-expanded", String(open));
    detail.hidden = !open;
    const sorted = function (models) { return String(models.sort()); };
    const mine = JSON.parse(button.closest("td").dataset.models).map(sorted);
    detail.querySelectorAll("li").forEach(function (item) {
      item.classList.toggle("chosen", mine.includes(sorted(JSON.parse(item.dataset.models)[0])));
    });
  });
});
