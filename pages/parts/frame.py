"""What every page shares: browser tab, style, name, menu and who is let in. Each page calls `begin` first.

Streamlit runs a page's file directly on a deep link, past `app.py`; a frame that every page draws itself is the same on
a first visit, a reload and a deep link.
"""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from pathlib import Path

import streamlit as st

from pages.parts.access import access, admit, draw_visitor
from pages.report import TEMPLATE

PAGES = {
    "pages/explore.py": "Explore",
    "pages/detections.py": "Detections",
    "pages/runs.py": "Runs",
    "pages/device.py": "On the device",
    "pages/deploy.py": "Deploy",
    "pages/bring.py": "Add yours",
}
ICON = Path(__file__).parent / "icon.png"

_STYLE = """
<style>
.stMainBlockContainer { max-width: 1240px; padding: 1.25rem 1.5rem 4rem; }
/* Streamlit's header lies over the menu; but for its own buttons, clicks go through it. */
.stAppHeader, .stAppHeader * { background: transparent; pointer-events: none; }
.stAppHeader :is(button, a), .stAppHeader :is(button, a) * { pointer-events: auto; }
h1 { letter-spacing: -0.02em; }
.st-key-frame-menu { border-bottom: 1px solid rgba(138, 147, 160, 0.25); padding-bottom: 0.4rem; }
.trimboard-name { display: flex; align-items: center; gap: 0.55rem; font-weight: 650; font-size: 1.05rem; }
.trimboard-legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.4rem; font-size: 0.85rem; }
.trimboard-legend span { display: inline-flex; align-items: center; gap: 0.45rem; }
/* Streamlit draws too faintly: labels of select boxes with one option, what is chosen on a dark ground, and code. */
[data-testid="stWidgetLabel"] p { color: light-dark(#0B1018, #E6EBF2); }
[data-variant="segmented_control"][data-selected="true"] p, [data-testid="stSliderThumbValue"] p {
  color: light-dark(#2A67C0, #8AB4F0);
}
[data-testid="stCode"] .token { color: light-dark(#1F5FAE, #8AB4F0) !important; }
/* Room for a finger. */
.stMultiSelect button { min-width: 24px; min-height: 24px; }
[data-testid="stCaptionContainer"] code { font-size: 0.9em; }
/* Buttons that save a plot, beside the title of its axis, where no point is: while a mouse is on the plot or the
   keyboard in them, and always on a touch screen. */
.stPlotlyChart { position: relative; }
.stPlotlyChart .modebar { display: none; }
.trimboard-save { position: absolute; bottom: 0; right: 0; z-index: 1; display: flex; gap: 0.3rem; opacity: 0; }
.stPlotlyChart:hover .trimboard-save, .trimboard-save:focus-within { opacity: 1; }
.trimboard-save button { padding: 0 0.5rem; font: inherit; font-size: 0.75rem; line-height: 1.6; color: inherit;
  cursor: pointer; border: 1px solid rgba(138, 147, 160, 0.5); border-radius: 0.4rem; backdrop-filter: blur(6px);
  background: transparent; }
.trimboard-save button:is(:hover, :focus-visible) { border-color: #3B7DDD; color: #3B7DDD; }
@media (hover: none) { .trimboard-save { left: 0; right: auto; opacity: 0.8; } }
.st-key-plot-images { display: none; }
.stMetric { font-variant-numeric: tabular-nums; }
[data-testid="stMetricValue"] { letter-spacing: -0.01em; }
/* Six cards in a row on a wide screen, three on a tablet, two on a phone. */
.st-key-cards { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 0.75rem; }
@media (max-width: 1100px) { .st-key-cards { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
/* The formats of an export in four columns, two on a tablet, one on a phone. */
.st-key-formats { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 0.75rem 1.25rem; }
@media (max-width: 1100px) { .st-key-formats { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 640px) { .st-key-formats { grid-template-columns: minmax(0, 1fr); } }
.st-key-gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem; }
@media (max-width: 640px) {
  .st-key-cards { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.5rem; }
  .stMainBlockContainer { padding: 1rem 0.9rem 3rem; }
  .stMainBlockContainer .st-key-frame-menu { padding-right: 2rem; gap: 0.25rem 0.5rem; }
}
</style>
"""

_NAME = (
    '<div class="trimboard-name"><img alt="" width="22" height="22" src="data:image/png;base64,{icon}">Trimboard</div>'
)


def begin(title: str) -> None:
    """Set up the browser tab and draw the head of a page; for a visitor who may see nothing the page ends here.

    Args:
        title: of the page, as in the menu.
    """
    st.set_page_config(
        page_title=f"{title} · Trimboard", page_icon=ICON, layout="wide", initial_sidebar_state="collapsed"
    )
    st.html(_STYLE)
    with st.container(key="plot-images"):
        st.html(_plot_images(), unsafe_allow_javascript=True)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="frame-menu"):
        st.html(_NAME.format(icon=b64encode(ICON.read_bytes()).decode()), width="content")
        for page, label in PAGES.items() if access().sees else ():
            st.page_link(page, label=label, query_params=st.query_params.to_dict())
        draw_visitor()
    admit()


@lru_cache(maxsize=1)
def _plot_images() -> str:
    """The script that lets each plot of the dashboard be saved as an image."""
    files = (TEMPLATE / "images.js", ICON.parent / "plot_images.js")
    return f"<script>(() => {{\n{''.join(file.read_text(encoding='utf-8') for file in files)}}})();</script>"
