// What is in view first; then as the reader, the window or the light changes.
panels.forEach(function (panel) { panel.element.job = panel.job; eyes.observe(panel.element); });
document.querySelectorAll(".thumb").forEach(function (link) { eyes.observe(link); });

function redrawAll() {
  panels.forEach(function (panel) { if (panel.view) { want(panel.job); } });
}
let resizing = 0;
window.addEventListener("resize", function () { window.clearTimeout(resizing); resizing = window.setTimeout(redrawAll, 150); });
function swatches() {
  document.querySelectorAll(".swatch").forEach(function (line) { line.setAttribute("stroke", tinted(line.dataset.colour)); });
}
swatches();
dark.addEventListener("change", function () {
  swatches();
  panels.forEach(function (panel) { panel.width = panel.view ? -1 : 0; });
  document.querySelectorAll(".thumb").forEach(function (link) { link.textContent = ""; want(link.job); });
  figures.forEach(function (figure) { const place = figure.section.querySelector(".legend"); if (place) { place.textContent = ""; } });
  redrawAll();
  figures.forEach(legend);
});
window.addEventListener("beforeprint", function () {
  document.querySelectorAll("details.untested").forEach(function (d) { d.open = true; });
  panels.forEach(draw);
});

// The contents: folded where there is little room; the figure being read is marked.
const contents = document.querySelector(".contents details");
if (contents && window.matchMedia("(max-width: 1099px)").matches) {
  contents.open = false;
  contents.addEventListener("click", function (event) { if (event.target.closest("a")) { contents.open = false; } });
}
const entries = new Map();
document.querySelectorAll(".contents a").forEach(function (link) { entries.set(link.getAttribute("href").slice(1), link.parentElement); });
const reader = new IntersectionObserver(function (seen) {
  seen.forEach(function (entry) {
    const item = entries.get(entry.target.id);
    if (item) { item.classList.toggle("here", entry.isIntersecting); }
  });
}, {rootMargin: "-10% 0px -70% 0px"});
entries.forEach(function (item, id) { const target = document.getElementById(id); if (target) { reader.observe(target); } });

// Inside another document, a notebook, a link to a figure would open that document in its place.
if (location.protocol === "about:") {
  document.addEventListener("click", function (event) {
    const link = event.target.closest('a[href^="#"]');
    const target = link && document.getElementById(link.getAttribute("href").slice(1));
    if (target) { event.preventDefault(); target.scrollIntoView(); }
  });
}
