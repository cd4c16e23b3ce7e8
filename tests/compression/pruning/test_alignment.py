"""Which steps of channels a backend gets."""

from __future__ import annotations

import json

import pytest

from compression.cli import main as cli
from compression.errors import SpecError
from compression.pruning.alignment import MEASURED, alignment_for
from compression.spec import ALIGNMENTS


def test_what_was_measured_is_possible() -> None:
    assert {alignment_for(backend) for backend in MEASURED} <= set(ALIGNMENTS)


def test_what_was_not_measured_is_told() -> None:
    with pytest.raises(SpecError, match=r"backend cuda likes was not measured; give --align 1, 4, 8, 16, 32 yourself"):
        alignment_for("cuda")


def plan(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    cli.main(["plan", "yolo26n.yaml", "--level", "5", "--imgsz", "64", "--json", *arguments])
    written = capfd.readouterr().out
    # Ultralytics tells of the model first.
    found: dict[str, object] = json.loads(written[written.index("{") :])
    return found


def test_a_plan_by_name_of_the_backend_is_that_of_its_steps(capfd: pytest.CaptureFixture[str]) -> None:
    auto = plan(capfd, "--align", "auto", "--backend", "openvino")
    stated = plan(capfd, "--align", str(alignment_for("openvino")))
    usual = plan(capfd)
    assert auto["align"] == stated["align"] == 16
    assert auto["layers"] == stated["layers"]
    assert usual["align"] == 8
    assert usual["layers"] != stated["layers"]


@pytest.mark.parametrize(
    ("align", "sentence"),
    [
        ("wide", "--align 'wide' is not understood; give one of 1, 4, 8, 16, 32, or auto."),
        ("12", "Steps of 12 channels are not possible; choose one of 1, 4, 8, 16, 32."),
    ],
)
def test_other_steps_are_refused(align: str, sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        plan(capfd, "--align", align)
    assert caught.value.code == 2
    assert capfd.readouterr().err.splitlines()[-1] == f"trimboard: {sentence}"
