"""Results handed on to people: one HTML file that opens offline, and the commands that repeat what it tells.

It knows no Streamlit. Plots are those of the dashboard, `pages.parts.plots`, which knows none either.
"""

from pathlib import Path

# What the report is made of; `images.js` serves the dashboard too.
TEMPLATE = Path(__file__).parent / "template"
