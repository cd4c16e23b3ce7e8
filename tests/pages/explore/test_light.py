"""Tables and commands without Streamlit's heavy elements."""

from __future__ import annotations

import pandas as pd

from pages.parts.explore.light import as_markdown


def test_a_table_is_markdown_in_which_texts_are_only_texts() -> None:
    rows = pd.DataFrame({"Metric": ["mAP50", "a|b"], "Change": ["-5.0%", "**no**"]})
    assert as_markdown(rows).splitlines() == [
        "| Metric | Change |",
        "| --- | --- |",
        "| mAP50 | -5.0% |",
        r"| a\|b | \*\*no\*\* |",
    ]
