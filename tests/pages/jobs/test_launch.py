"""The form that starts a run, without the page around it; no process is started."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from compression.jobs import local
from compression.request import RunRequest
from compression.spec import CutMethod
from pages.parts.jobs.launch import LaunchOptions


def _script(options: object) -> None:
    from pages.parts.jobs.launch import LaunchOptions, launch_form

    assert isinstance(options, LaunchOptions)
    launch_form(3, options)


def _submitted(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> RunRequest:
    """What the form asks for as it is shown first."""
    asked: list[RunRequest] = []
    monkeypatch.setattr(local, "start_run", asked.append)
    values: dict[str, Any] = {"key": "test", "models": {"mine.pt": ""}, "data": "shapes", "imgsz": 320, **changes}
    form = AppTest.from_function(_script, args=(LaunchOptions(**values),), default_timeout=30).run()
    assert not form.exception
    form.button[0].click().run()
    (request,) = asked
    return request


def test_what_the_form_has_no_field_for_stays_that_of_the_series(monkeypatch: pytest.MonkeyPatch) -> None:
    method = CutMethod(align=16, seed=2)
    request = _submitted(monkeypatch, method=method, head="nms")
    assert (request.method, request.head) == (method, "nms")


def test_a_series_beyond_what_the_form_offers_is_shown_and_asked_for_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # COCO has 118,287 training images.
    method = CutMethod(calibration_images=118_287)
    request = _submitted(monkeypatch, method=method, imgsz=4128, steps=150, seed=2**31, epochs=20_000, batch=8192)
    assert request.method == method
    assert (request.imgsz, request.steps, request.seed) == (4128, 150, 2**31)
    assert (request.epochs, request.batch) == (20_000, 8192)
