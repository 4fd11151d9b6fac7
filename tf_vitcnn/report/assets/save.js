// Downloads: the whole figure as a picture or a specification, its numbers as a table, the commands that made it.
function whole(figure) {
  const parts = JSON.parse(figure.text);
  const rows = parts.rows.map(function (row, i) { return row.map(function (spec, j) { return Object.assign({}, spec, {title: parts.titles[i][j]}); }); });
  const lines = rows.map(function (row) { return row.length === 1 ? row[0] : {hconcat: row}; });
  const shape = lines.length === 1 ? lines[0] : {vconcat: lines};
  const several = flat(rows).length > 1;
  const spec = Object.assign({}, shape, parts.top, {config: shared.config}, several ? {resolve: {scale: {color: "independent", strokeDash: "independent"}}} : {});
  (spec.params || []).forEach(function (param) { if (param.name === "hidden") { param.value = hiddenOf(figure.panels[0]); } });
  return spec;
}

function offer(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  window.setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
}

function blobOf(figure, kind) {
  if (kind === "json") { return Promise.resolve(new Blob([JSON.stringify(whole(figure))], {type: "application/json"})); }
  if (kind === "csv") { return csv(figure).then(function (text) { return new Blob([text], {type: "text/csv"}); }); }
  return embed(null, whole(figure), "none").then(function (made) {
    if (kind === "svg") { return made.view.toSVG().then(function (text) { return new Blob([text], {type: "image/svg+xml"}); }); }
    return made.view.toCanvas(2).then(function (canvas) { return new Promise(function (done) { canvas.toBlob(done, "image/png"); }); });
  });
}

// The numbers as they are drawn: packed matrices opened, positions and texts of the drawing left out.
const INNER = /^(cells|errors|unit|error_unit|n|xs|ys|layer_xs|layer_ys|layers|width|panel|said|rank|relative_depth|deepest|low|high)$/;

function csv(figure) {
  return Promise.all(figure.panels.map(function (panel) { return numbersOf(panelSpec(panel)); })).then(function (tables) {
    const rows = flat(tables).filter(function (row) { return row.layer !== null; }).map(plain), columns = [];
    rows.forEach(function (row) { Object.keys(row).forEach(function (c) { if (columns.indexOf(c) < 0) { columns.push(c); } }); });
    const lines = rows.map(function (row) { return columns.map(function (c) { return quoted(row[c]); }).join(","); });
    return [columns.join(",")].concat(Array.from(new Set(lines))).join("\n") + "\n";
  });
}

function plain(row) {
  const kept = {};
  Object.keys(row).forEach(function (name) {
    if (INNER.test(name) || (typeof row[name] === "object" && row[name] !== null)) { return; }
    kept[name] = typeof row[name] === "number" ? Number(row[name].toPrecision(6)) : row[name];
  });
  return kept;
}

function numbersOf(spec) {
  const rows = rowsOf(spec);
  if (!rows.length || !("cells" in rows[0])) { return Promise.resolve(rows); }
  return embed(null, spec, "none").then(function (made) {
    let found = [];
    made.vgSpec.data.forEach(function (set) {
      const values = made.view.data(set.name);
      if (values.length >= found.length && values.length && "cells" in values[0]) { found = values; }
    });
    made.view.finalize();
    return found;
  });
}

function quoted(value) {
  if (value === null || value === undefined) { return ""; }
  const text = String(value);
  return /[",\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
}

document.querySelectorAll("button[data-save]").forEach(function (button) {
  button.addEventListener("click", function () {
    const figure = figures.get(button.closest("section.figure").id), kind = button.dataset.save;
    unpacked(figure).then(function () { return blobOf(figure, kind); }).then(function (blob) { offer(figure.slug + (kind === "json" ? ".vl.json" : "." + kind), blob); });
  });
});

document.querySelectorAll("button.copy").forEach(function (button) {
  button.addEventListener("click", function () {
    const commands = button.closest("details").querySelector(".commands");
    const said = button.textContent;
    function done() { button.textContent = "Copied"; window.setTimeout(function () { button.textContent = said; }, 1500); }
    function select() { window.getSelection().selectAllChildren(commands); document.execCommand("copy"); done(); }
    if (navigator.clipboard) { navigator.clipboard.writeText(commands.textContent.trim()).then(done, select); } else { select(); }
  });
});
