// Two buttons on each plot of the dashboard, which save it as an image. Streamlit keeps Plotly to itself; the button of
// Plotly's own mode bar, which the style of the frame hides, takes any figure and is the way in.
function wayIn(chart) {
  const bar = chart.querySelector(".js-plotly-plot")?._fullLayout?._modeBar;
  return bar?.buttons.flat().find(({name}) => name === "toImage");
}

function save(chart, format) {
  const plot = chart.querySelector(".js-plotly-plot");
  const figure = onPaper(plot.data, plot.layout);
  const {width, height} = figure.layout;
  const key = [...chart.closest("[class*=st-key-]")?.classList ?? []].find((name) => name.startsWith("st-key-"));
  const filename = `trimboard-${key?.slice("st-key-".length) ?? "plot"}`;
  const toImageButtonOptions = {format, filename, width, height, scale: 2};
  wayIn(chart).click({...figure, config: {}, _context: {toImageButtonOptions, locale: "en-US", locales: {}, displayNotifier: false}});
}

function addButtons() {
  for (const chart of document.querySelectorAll(".stPlotlyChart:not(:has(> .trimboard-save))")) {
    if (!wayIn(chart)) continue;
    const buttons = document.createElement("div");
    buttons.className = "trimboard-save";
    for (const format of ["png", "svg"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = format.toUpperCase();
      button.ariaLabel = button.title = `Save this plot as ${format.toUpperCase()}`;
      button.addEventListener("click", () => save(chart, format));
      buttons.append(button);
    }
    chart.append(buttons);
  }
}

if (!window.trimboardSavesPlots) {
  window.trimboardSavesPlots = true;
  let waiting = 0;
  new MutationObserver(() => {
    waiting ||= requestAnimationFrame(() => { waiting = 0; addButtons(); });
  }).observe(document.body, {childList: true, subtree: true});
  addButtons();
}
