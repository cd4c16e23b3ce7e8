"""Inputs that cannot be used, through the page: one sentence each as the command line says it, and nothing is kept."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from compression.brought import brought
from compression.cli.main import main
from compression.jobs import local
from compression.jobs.local import Job
from pages.parts.jobs.runs import plain
from tests.compression.bad_inputs import BAD_INPUTS, HERE, MARKER, BadInput

ROOT = Path(__file__).parents[2]


def path_in(bad: BadInput) -> str:
    """What a user would type into the page's field for a path; empty for what names no file."""
    return next((part for part in bad.command if part.startswith(f"{HERE}/")), "")


# The page takes trained models only; architectures are chosen by their names.
MODELS = [bad for bad in BAD_INPUTS if bad.command[0] == "plan" and path_in(bad).endswith(".pt")]
DATA = [bad for bad in BAD_INPUTS if bad.command[:3] == ("run", "yolo26n.yaml", "--data") and path_in(bad)]
# Which classes a run shall keep is asked elsewhere; of folders and pipes the page says that they are no files.
TOLD_OTHERWISE = ("classes that nobody has", "folder as a model", "pipe as a model")


@pytest.fixture(autouse=True)
def at_once(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checks that a page starts run here, in place of a process of their own."""

    def start(file: str, name: str) -> Job:
        log_file, said, code = own_home / "add.log", io.StringIO(), 0
        with contextlib.redirect_stderr(said):
            try:
                main(["add", f"--name={name}", "--", file])
            except SystemExit as stopped:
                code = int(stopped.code or 0)
        log_file.write_text(said.getvalue())
        process: Any = SimpleNamespace(poll=lambda: code)
        arguments = ("add", f"--name={name}", "--", file)
        job = Job(kind="add", arguments=arguments, pid=1, log_file=log_file, _process=process)
        local._jobs[arguments] = job
        return job

    monkeypatch.setattr(local, "start_add", start)
    monkeypatch.setattr(local, "_jobs", {})
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.mark.parametrize(("kind", "corpus"), [("model", MODELS), ("data", DATA)], ids=["models", "data sets"])
def test_one_sentence_and_nothing_is_kept(kind: str, corpus: list[BadInput], tmp_path: Path) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30).switch_page("pages/bring.py").run()
    page.segmented_control(key=f"{kind}-by").set_value("By its path").run()
    wrong = {}
    for number, bad in enumerate(bad for bad in corpus if bad.name not in TOLD_OTHERWISE):
        here = tmp_path / str(number)
        here.mkdir()
        bad.make(here)
        page.text_input(key=f"{kind}-path-{number}").set_value(path_in(bad).replace(HERE, str(here))).run()
        page.button(key=f"{kind}-add").click().run()
        # Of a model that is copied the name alone is told.
        says = plain(bad.says.replace(f"{HERE}/", "") if kind == "model" else bad.says.replace(HERE, str(here)))
        told = [each for each in page.markdown if says in str(each.value) and plain(bad.remedy) in str(each.value)]
        refused = [each.value for each in page.error if "cannot be used" in str(each.value)]
        if page.exception or len(told) != 1 or len(refused) != 1 or (here / MARKER).exists():
            wrong[bad.name] = [str(each.value) for each in (*page.exception, *page.error, *page.markdown)]
        page.button(key=f"{kind}-dismiss-0").click().run()
    assert wrong == {}
    assert brought("model") == brought("data") == []


def test_the_corpus_is_large() -> None:
    assert len(MODELS) + len(DATA) >= 70
