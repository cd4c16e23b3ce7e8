"""Tables and commands on Explore without Streamlit's own elements for them.

The browser would fetch 2.6 MB more for these: its tables come with Arrow's reader, its code boxes with a highlighter. A
visitor who only looks needs neither.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.jobs.runs import plain


def draw_table(rows: pd.DataFrame) -> None:
    """A small table of texts."""
    st.markdown(as_markdown(rows))


def as_markdown(rows: pd.DataFrame) -> str:
    """A table in GitHub's Markdown, in which no text is read as Markdown.

    Args:
        rows: of texts.
    """
    lines = [list(rows.columns), ["---"] * len(rows.columns)]
    lines += [[plain(str(cell)) for cell in row] for row in rows.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw_command(label: str, command: str, key: str, note: str = "") -> None:
    """A command to copy, below a line that opens.

    Args:
        label: what it is for.
        command: as it is typed.
        key: of the line.
        note: what has to be known of it.
    """
    box = st.expander(label, key=key, icon=":material/terminal:", on_change="rerun")
    if box.open:
        box.code(command, language="bash", wrap_lines=True)
        if note:
            box.caption(plain(note))
