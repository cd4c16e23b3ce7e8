"""Open the store for a page, or say in one sentence why it cannot be read; and what all visitors read of it."""

from __future__ import annotations

import streamlit as st

from cache.record import RunRecord
from cache.store import Store
from compression.data.dataset import known_datasets
from compression.errors import TrimboardError
from compression.home import home


@st.cache_resource(show_spinner=False)
def _store(folder: str) -> Store:
    return Store()


@st.cache_data(show_spinner=False)
def known_dataset_names() -> tuple[str, ...]:
    """Data sets that need no path; read from the installed packages once a server."""
    return tuple(known.name for known in known_datasets())


def open_store() -> Store:
    """The store; where it cannot be read, the page ends with the reason and the remedy."""
    try:
        store = _store(str(home()))
        damaged = store.unreadable()
    except (TrimboardError, OSError) as error:
        st.error(f"The results cannot be read. {error}", icon=":material/error:")
        st.stop()
    if damaged:
        noun = "result is" if damaged == 1 else "results are"
        st.warning(f"{damaged} stored {noun} damaged or of another version, and not shown.")
    return store


def heads_on(store: Store, data: str | None = None) -> list[RunRecord]:
    """Results without layers and curves, read once for all visitors until another one is added; not to be changed.

    Args:
        store: of `open_store`.
        data: name of the data set they are on; None for all.
    """
    kept, revision = _kept(str(home()), data), store.revision(data)
    found = kept.get(revision)
    if found is None:
        found = store.heads(data=data)
        # Of each data set only the newest are kept.
        kept.clear()
        kept[revision] = found
    return found


@st.cache_resource(show_spinner=False)
def _kept(folder: str, data: str | None) -> dict[str, list[RunRecord]]:
    """Results by revision, of one data folder and data set."""
    return {}
