"""The verdict on a level, as it stands below the cards."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from cache.verdict import Verdict
from pages.parts.access import may_act
from pages.parts.explore.light import draw_command

QUESTION = "Prune, or take the smaller sibling?"


def show_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Draw what is to be said of one level: of its measurement or plan, and of what was published."""
    if not verdicts:
        return
    with st.container(border=True, gap="small", key="verdict"):
        st.markdown(f"**{QUESTION}**")
        for number, verdict in enumerate(verdicts):
            lead, _, figures = verdict.text.partition(": ")
            st.markdown(f"**{_plain(lead)}:** {_plain(figures)}")
            if verdict.sureness:
                st.caption(_plain(verdict.sureness))
            # It names paths of this machine.
            if verdict.command and may_act():
                draw_command("Command that makes it surer", verdict.command, f"verdict-command-{number}")


def _plain(text: str) -> str:
    """Text in which nothing is Markdown: a model may be called `my_best_model`."""
    return text.translate({ord(sign): f"\\{sign}" for sign in "\\`*_[]$~<"})
