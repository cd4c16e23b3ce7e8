"""What can be taken along from Explore, and addresses that restore a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cache.judged import BESIDE_COLUMNS
from cache.store import Store
from cache.summary import COLUMNS
from pages.parts import results
from pages.parts.access import ACCESS, RESULTS
from tests import factories

ROOT = Path(__file__).parents[3]
PLACE = "/home/ada"


@pytest.fixture(autouse=True)
def only_own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither shipped results, nor the store of an earlier test."""
    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def _open(page: str, **query: str) -> AppTest:
    opened = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    opened.query_params.update(query)
    opened = opened.switch_page(f"pages/{page}.py").run()
    assert not opened.exception
    return opened


def _save() -> None:
    given = {"model": f"{PLACE}/yolo26n.pt", "data_source": f"{PLACE}/shapes/data.yaml"}
    for record in factories.series((0, 3), **given):
        Store().save(record)


def _texts(opened: AppTest) -> str:
    return "\n".join(str(each.value) for each in (*opened.code, *opened.caption, *opened.markdown))


def test_the_command_of_the_level_is_there_to_copy() -> None:
    _save()
    opened = _open("explore", level="3")
    opened.session_state["run-command"] = True
    opened.run()
    command = f"trimboard run {PLACE}/yolo26n.pt --data={PLACE}/shapes/data.yaml --level=3"
    assert any(code.value.startswith(command) for code in opened.code)
    assert f"has to be the file with SHA-256 {'ab' * 32}" in _texts(opened)


def test_visitors_who_may_not_act_see_no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    _save()
    monkeypatch.setenv(ACCESS, RESULTS)
    opened = _open("explore", level="3")
    opened.session_state["run-command"] = True
    opened.run()
    assert PLACE not in _texts(opened)
    assert any(code.value.startswith("trimboard run WEIGHTS.pt --data=shapes --level=3") for code in opened.code)


def test_each_column_of_the_files_is_documented_with_its_type() -> None:
    names = {"str": "string", "Int64": "integer", "float64": "number"}
    page = (ROOT / "docs" / "comparison.md").read_text()
    documented = dict(re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \|$", page, re.MULTILINE))
    assert documented == {name: names[kind] for name, kind in (COLUMNS | BESIDE_COLUMNS).items()}


def test_an_address_restores_what_was_chosen_on_the_device() -> None:
    for record in (factories.record(0), factories.record(3), factories.record(5)):
        Store().save(factories.with_checkpoint(record, b"weights", factories.sha256_of(record.key)))
    opened = _open(
        "device",
        **{
            "lost-speed-level": "level 3",
            "precisions": "fp32",
            "sizes": "0.5",
            "siblings": "true",
            "threads-wanted": "2",
        },
    )
    assert opened.segmented_control(key="lost-speed-level").value == 3
    assert opened.multiselect(key="precisions").value == ["fp32"]
    assert opened.multiselect(key="sizes").value == [0.5]
    assert opened.toggle(key="siblings").value is True
    assert opened.number_input(key="threads-wanted").value == 2
