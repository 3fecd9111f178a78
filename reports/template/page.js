"use strict";
// Charts, the choice between them, the pinned configuration, and sorting. No network, no library
// but plotly.

const data = JSON.parse(document.getElementById("data").textContent);
const darkScreen = matchMedia("(prefers-color-scheme: dark)");

/** A chart's figure in the colours of the screen. */
function figure(name) {
  let text = JSON.stringify(data.charts[name]);
  if (darkScreen.matches)
    for (const [light, dark] of Object.entries(data.dark)) text = text.replaceAll(light, dark);
  return JSON.parse(text);
}

/** Draw the chart that an element names, and keep a clicked point's text below it. */
function draw(element) {
  const { data: traces, layout } = figure(element.dataset.chart);
  if (element.clientWidth < 500) {
    // The caption explains the symbols; a legend would take half of a telephone's chart.
    layout.showlegend = false;
    layout.height = Math.min(layout.height, 420);
  }
  const config = { responsive: true, displaylogo: false, displayModeBar: "pinned" in element.dataset,
    modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]] };
  Plotly.react(element, traces, layout, config).then(() => {
    const pinned = document.getElementById(element.dataset.pinned);
    if (!pinned || element.dataset.listening) return;
    element.dataset.listening = "yes";
    element.on("plotly_click", (event) => {
      // Escaped where it was made: text and line breaks only.
      pinned.innerHTML = event.points[0].text;
    });
  });
}

const elements = [...document.querySelectorAll("[data-chart]")];
const drawAll = () => elements.forEach(draw);
drawAll();
darkScreen.addEventListener("change", drawAll);

for (const choice of document.querySelectorAll("input[name=plane]"))
  choice.addEventListener("change", () => {
    const element = document.getElementById("plane");
    element.dataset.chart = choice.value;
    draw(element);
  });

/** Sort a table by one column; numbers by value, empty cells last. */
function sort(table, index, descending) {
  const body = table.tBodies[0];
  const key = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return descending ? -order : order;
  };
  body.append(...[...body.rows].sort(compare));
}

for (const button of document.querySelectorAll("table.sortable th button"))
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    sort(button.closest("table"), head.cellIndex, descending);
  });
