// Draws the plots in the colours of the page or of paper, saves them, and lets commands be copied.
const PAPER_WIDTH = 690; // Pixels of an A4 page between its margins.
const family = getComputedStyle(document.body).fontFamily;

const plots = [...document.querySelectorAll(".canvas")].map((canvas) => ({
  canvas, ...JSON.parse(document.getElementById(`figure-${canvas.dataset.name}`).textContent),
}));

function screen() {
  const style = getComputedStyle(document.documentElement);
  const [raised, text, grid] = ["--raised", "--text", "--line"].map((name) => style.getPropertyValue(name).trim());
  return {ground: "rgba(0,0,0,0)", raised, text, grid};
}

function draw(colours, width) {
  for (const {canvas, data, layout} of plots)
    Plotly.react(canvas, data, {...dressed(layout, colours, family), width, autosize: width === undefined},
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
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(screen()));
draw(screen());
