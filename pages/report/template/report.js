// Draws the plots in the colours of the page or of paper, saves them, and lets commands be copied.
const PAPER_WIDTH = 690; // Pixels of an A4 page between its margins.
const TICK_WIDTH = 26, LETTER_WIDTH = 9; // Pixels, with the margins that they leave.
const family = getComputedStyle(document.body).fontFamily;

const plots = [...document.querySelectorAll(".canvas")].map((canvas) => ({
  canvas, ...JSON.parse(document.getElementById(`figure-${canvas.dataset.name}`).textContent),
}));

function screen() {
  const style = getComputedStyle(document.documentElement);
  const [raised, text, grid] = ["--raised", "--text", "--line"].map((name) => style.getPropertyValue(name).trim());
  return {ground: "rgba(0,0,0,0)", raised, text, grid};
}

// Where there is no room for each name below an axis, every second or third is left, and its title takes two lines.
function narrowed(layout, width) {
  const {tickvals, ticktext, title} = layout.xaxis;
  const step = tickvals ? Math.ceil(tickvals.length * TICK_WIDTH / width) : 1;
  const kept = (values) => values?.filter((_, place) => place % step === 0);
  const isLong = title?.text?.length * LETTER_WIDTH > width;
  const text = isLong ? title.text.replace(/ (?=\()|(?<=,) /, "<br>") : title?.text;
  return {...layout, xaxis: {...layout.xaxis, tickvals: kept(tickvals), ticktext: kept(ticktext), title: {...title, text}}};
}

function draw(colours, width) {
  for (const {canvas, data, layout} of plots)
    Plotly.react(canvas, data,
      {...narrowed(dressed(layout, colours, family), width ?? canvas.clientWidth), width, autosize: width === undefined},
      {displayModeBar: false, responsive: true, doubleClick: "reset"});
}

for (const button of document.querySelectorAll(".save button"))
  button.addEventListener("click", () => {
    const name = button.closest(".save").dataset.plot;
    const {data, layout} = plots.find(({canvas}) => canvas.dataset.name === name);
    const figure = onPaper(data, layout);
    const {width, height} = figure.layout;
    const filename = `${document.documentElement.dataset.file}-${name}`;
    Plotly.downloadImage(figure, {format: button.dataset.format, filename, width, height, scale: 2});
  });

for (const button of document.querySelectorAll(".copy"))
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // Without leave to write, the text is marked, ready for the keyboard.
      getSelection().selectAllChildren(code);
      button.textContent = "Marked";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((one) => { one.open = true; });
  draw({...PAPER, ground: "rgba(0,0,0,0)"}, PAPER_WIDTH);
});
addEventListener("afterprint", () => {
  closed.forEach((one) => { one.open = false; });
  draw(screen());
});
for (const change of ["(prefers-color-scheme: dark)", "(max-width: 760px)"])
  matchMedia(change).addEventListener("change", () => draw(screen()));
draw(screen());
