// A layer under the pointer is marked in every panel that has it: of the same network, or of its twin.
const tip = document.getElementById("tip");
const kin = new Map(shared.networks.map(function (network) { return [network.name, network.twin || network.name]; }));

function showTip(handler, event, item, value) {
  if (value === null || value === undefined || value === "" || !event) { tip.hidden = true; return; }
  tip.textContent = typeof value === "object" ? Object.keys(value).map(function (k) { return k + " " + value[k]; }).join(", ") : String(value);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - box.width - 6);
  const above = event.clientY - box.height - 10;
  tip.style.left = Math.max(4, left) + "px";
  tip.style.top = (above < 4 ? event.clientY + 18 : above) + "px";
}

function listen(panel) {
  panel.places = placesOf(panel);
  panel.view.addEventListener("mousemove", function (event, item) { spot(item && item.datum ? layersOfDatum(item.datum) : []); });
  panel.view.addEventListener("mouseout", function () { spot([]); tip.hidden = true; });
}

function key(model, layer) { return (kin.get(model) || model) + "\u0000" + layer; }

function layersOfDatum(datum) {
  const found = [];
  const x = datum.model_x || datum.model, y = datum.model_y || datum.model;
  if (datum.layer_x) { found.push(key(x, datum.layer_x)); }
  if (datum.layer_y) { found.push(key(datum.against || y, datum.layer_y)); }
  if (datum.layer) { found.push(key(datum.model, datum.layer)); }
  return found;
}

let spotted = "";
function spot(keys) {
  const now = keys.join("\u0001");
  if (now === spotted) { return; }
  spotted = now;
  panels.forEach(function (panel) {
    if (!panel.view) { return; }
    panel.place.querySelectorAll(".spot").forEach(function (mark) { mark.remove(); });
    keys.forEach(function (wanted) { (panel.places.get(wanted) || []).forEach(function (box) { mark(panel, box()); }); });
  });
  document.querySelectorAll(".legend button").forEach(function (button) {
    button.classList.toggle("spotted", keys.some(function (k) { return k.split("\u0000")[1] === button.dataset.value || k.split("\u0000")[0] === button.dataset.value; }));
  });
}

function mark(panel, box) {
  if (!box) { return; }
  const element = document.createElement("div");
  element.className = "spot";
  ["left", "top", "width", "height"].forEach(function (side, i) { element.style[side] = box[i] + "px"; });
  panel.place.appendChild(element);
}

// key of a layer -> where it is drawn, as functions that give [left, top, width, height]
function placesOf(panel) {
  const found = new Map(), spec = panel.spec, view = panel.view;
  function add(model, layer, box) {
    const k = key(model, layer);
    found.set(k, (found.get(k) || []).concat([box]));
  }
  const origin = view.origin(), padding = view.padding();
  const left = origin[0] + padding.left, top = origin[1] + padding.top;
  const rows = rowsOf(spec);
  if (isMatrix(spec)) {
    const row = rows[0], wide = view.width(), high = view.height();
    const across = row.layer_xs || (row.xs && spec.encoding.x.field === "depth" ? row.layers : null);
    const down = row.layer_ys || (spec.encoding.y.field === "depth" ? row.layers : null);
    (across || []).forEach(function (layer, i) {
      const step = wide / across.length;
      add(row.model_x || row.model, layer, function () { return [left + i * step - 1, top, step + 2, high]; });
    });
    (down || []).forEach(function (layer, i) {
      const step = high / down.length;
      add(row.model_y || row.model, layer, function () { return [left, top + high - (i + 1) * step - 1, wide, step + 2]; });
    });
  } else if (isMap(spec)) {
    const cells = new Map();
    groups(view.scenegraph().root, 0, 0, function (item, x, y) { cells.set(item.datum[spec.facet.field], [left + x, top + y, item.width, item.height]); });
    const field = spec.facet.field;
    rows.forEach(function (row) {
      const layer = field === "layer_y" ? row.layer_y : row.layer;
      const model = field === "layer_y" ? row.against : row.model;
      if (layer && !(found.get(key(model, layer)) || []).some(function (b) { return b.of === row[field]; })) {
        const box = function () { return cells.get(row[field]); };
        box.of = row[field];
        add(model, layer, box);
      }
    });
  } else {
    overDepth(panel, rows, function (row, x, names) { add(row[names.model], row[names.layer], function () { return [left + x - 1, top, 2, view.height()]; }); });
  }
  return found;
}

function overDepth(panel, rows, give) {
  const first = rows[0] || {};
  const names = {model: "model" in first ? "model" : "model_x", layer: "layer" in first ? "layer" : "layer_x", depth: "depth" in first ? "depth" : "depth_x"};
  const field = layersOf(panel.spec).map(function (part) { return part.encoding && part.encoding.x && part.encoding.x.field; }).filter(Boolean)[0];
  if (field !== "relative_depth" && field !== names.depth) { return; }
  const scale = panel.view.scale("x"), deepest = {};
  rows.forEach(function (row) { deepest[row[names.model]] = Math.max(deepest[row[names.model]] || 0, row[names.depth]); });
  rows.forEach(function (row) {
    const at = field === "relative_depth" ? row[names.depth] / (deepest[row[names.model]] || 1) : row[names.depth];
    give(row, scale(at), names);
  });
}

function groups(item, x, y, give) {
  (item.items || []).forEach(function (child) {
    if (child.marktype === undefined) { return; }
    (child.items || []).forEach(function (inner) {
      if (child.marktype !== "group") { return; }
      const at = [x + (inner.x || 0), y + (inner.y || 0)];
      if (child.name === "cell") { give(inner, at[0], at[1]); }
      groups(inner, at[0], at[1], give);
    });
  });
}
