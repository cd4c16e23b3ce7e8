// A figure as it is put on white paper, whatever the colours of the page; what stands beside a plot there, its legend or
// scale, is drawn into it. Shared by the report and by the dashboard.
// Fonts of the web are not at hand where an image is drawn.
const FAMILY = "Arial, Helvetica, sans-serif";
const PAPER = {ground: "#ffffff", raised: "#ffffff", text: "#1b2430", grid: "#dde2e9"};

function dressed(layout, colours, family) {
  const result = structuredClone(layout);
  delete result.template;
  result.paper_bgcolor = result.plot_bgcolor = colours.ground;
  result.font = {family, size: 13, color: colours.text};
  result.hoverlabel = {...result.hoverlabel, bgcolor: colours.raised, bordercolor: colours.grid, font: {color: colours.text, size: 13}};
  for (const name of Object.keys(result).filter((key) => /^[xy]axis\d*$/.test(key)))
    result[name] = {...result[name], gridcolor: colours.grid, linecolor: colours.grid, automargin: true};
  return result;
}

function onPaper(data, layout) {
  const result = dressed(layout, PAPER, FAMILY);
  const mapped = data.some(({type}) => type === "heatmap");
  // An image with boxes has no axes, and traces that share a name.
  const bare = layout.xaxis?.visible === false;
  const isNamed = ({name}, place) => Boolean(name) && data.findIndex((other) => other.name === name) === place;
  const nNames = data.filter(isNamed).length;
  const legend = !mapped && nNames > 1;
  Object.assign(result, {
    showlegend: legend,
    legend: {orientation: "h", x: 0, y: bare ? -0.03 : -0.2, yanchor: "top"},
    margin: {l: bare ? 28 : 84, r: Math.max(28, layout.margin?.r ?? 0), t: 28, b: 28},
    height: (layout.height || 360) + 40 + (legend ? 26 * Math.ceil(nNames / 3) + 20 : 0),
    width: mapped || layout.width > 900 ? 1400 : 900,
    autosize: false,
  });
  const scale = {title: {text: "removed, %", side: "right"}, thickness: 12, outlinewidth: 0};
  const drawn = data.map((trace, place) => trace.type === "heatmap"
    ? {...trace, showscale: true, colorbar: {...scale, ...trace.colorbar}} : {...trace, showlegend: isNamed(trace, place)});
  return {data: drawn, layout: result};
}
