"""Times of checkpoints: what is measured, against what, and that it is measured once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.latency import LatencyRecord, parse_latency
from cache.record import RecordError
from cache.store import own_store
from compression.cli.bench import add_bench_command
from compression.deployment import latency
from compression.deployment.backends import BACKENDS, Setting, _images, why_not_here
from compression.deployment.latency import Timed, measure, opened, reference_of
from compression.errors import SpecError
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import file_sha256
from compression.spec import BackendName
from compression.telling import silent
from tests.commands import run_command
from tests.compression.small_models import LEVEL_5, original, pruned

IMGSZ = 64
ROUNDS = 3


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A detector and its level 5."""
    folder = tmp_path_factory.mktemp("checkpoints")
    whole, narrow = folder / "whole.pt", folder / "narrow.pt"
    write_checkpoint(original("yolo26n"), whole, {})
    write_checkpoint(pruned("yolo26n", LEVEL_5), narrow, {"imgsz": IMGSZ})
    return whole, narrow


def setting(backend: BackendName = "torch", **changes: Any) -> Setting:
    values: dict[str, Any] = {
        "backend": backend,
        "precision": "fp32",
        "imgsz": IMGSZ,
        "batch": 1,
        "threads": 1,
        "head": "e2e",
    }
    return Setting(**(values | changes))


def timed(file: Path) -> Timed:
    return opened(str(file))


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_a_level_is_timed_in_turn_with_the_original(backend: BackendName, checkpoints: tuple[Path, Path]) -> None:
    if reason := why_not_here(backend):
        pytest.skip(reason)
    whole, narrow = checkpoints
    (record,) = measure([timed(narrow)], timed(whole), setting(backend), n_rounds=ROUNDS, tell=silent)
    assert (record.model, record.level) == ("narrow", None)
    assert record.spec.weights_sha256 == file_sha256(narrow)
    assert record.spec.reference_sha256 == file_sha256(whole)
    assert (record.spec.backend, record.spec.threads, record.spec.batch) == (backend, 1, 1)
    assert record.spec.backend_version[0].isdigit()
    assert 0 < record.median_ms <= record.p95_ms
    assert record.n_passes == 4 * ROUNDS
    assert record.ratio is not None
    assert record.ratio_low is not None
    assert record.ratio_high is not None
    assert record.ratio_low <= record.ratio <= record.ratio_high
    assert record.peak_memory_mb > 0
    # The file is smaller than the original's by what was cut.
    alone = measure([timed(whole)], None, setting(backend), n_rounds=ROUNDS, tell=silent)[0]
    assert 0.6 < record.size_bytes / alone.size_bytes < 0.9
    assert (alone.ratio, alone.spec.reference_sha256) == (None, None)


def test_what_was_measured_here_is_not_measured_again(
    checkpoints: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, narrow = checkpoints
    first = measure([timed(narrow)], timed(whole), setting(), n_rounds=ROUNDS, tell=silent)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(latency, "take_turns", never)
        assert measure([timed(narrow)], timed(whole), setting(), tell=silent) == first
        # Against another reference, at another size or with more threads it is another question.
        changes: tuple[dict[str, Any], ...] = ({}, {"imgsz": 96}, {"threads": 2}, {"batch": 2})
        for changed in changes:
            with pytest.raises(AssertionError, match="measured again"):
                measure([timed(narrow)], None if not changed else timed(whole), setting(**changed), tell=silent)
    again = measure([timed(narrow)], timed(whole), setting(), n_rounds=ROUNDS, again=True, tell=silent)
    assert again[0].spec == first[0].spec
    assert own_store().latencies([file_sha256(narrow)]) == again


def test_ratios_are_against_level_0_of_a_result_or_the_first_checkpoint(checkpoints: tuple[Path, Path]) -> None:
    whole, narrow = (timed(file) for file in checkpoints)
    assert reference_of([narrow]) is None
    assert reference_of([whole, narrow]) == whole


def test_an_architecture_is_timed_with_random_weights() -> None:
    first, again = opened("yolo26n.yaml"), opened("yolo26n.yaml")
    assert first == again
    assert (first.model, first.record, first.has_e2e_head) == ("yolo26n", None, True)


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_grey_images_are_timed_as_such(backend: BackendName, tmp_path: Path) -> None:
    if reason := why_not_here(backend):
        pytest.skip(reason)
    (tmp_path / "grey.yaml").write_text(
        "nc: 1\nchannels: 1\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, Conv, [16, 3, 2]]\n"
        "head:\n  - [[-1], 1, Detect, [nc]]\n"
    )
    (record,) = measure([timed(tmp_path / "grey.yaml")], None, setting(backend, head="nms"), n_rounds=2, tell=silent)
    assert record.median_ms > 0


def test_an_architecture_that_was_changed_is_another(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    form = "nc: 1\nbackbone:\n  - [-1, 1, Conv, [{}, 3, 2]]\nhead:\n  - [[-1], 1, Detect, [nc]]\n"
    hashes = []
    for width in (16, 32):
        file.write_text(form.format(width))
        hashes.append(opened(str(file)).sha256)
    assert hashes[0] != hashes[1]


def test_images_that_are_no_squares_are_timed_as_such(checkpoints: tuple[Path, Path]) -> None:
    whole, narrow = checkpoints
    asked = setting(imgsz=(IMGSZ, 2 * IMGSZ))
    (record,) = measure([timed(narrow)], timed(whole), asked, n_rounds=2, tell=silent)
    (square,) = measure([timed(narrow)], timed(whole), setting(), n_rounds=2, tell=silent)
    assert record.spec.key != square.spec.key
    assert parse_latency(json.dumps(record.to_dict())) == record
    assert own_store().find_latency(record.spec.key) == record
    assert _images(asked, np.float32, 3).shape == (1, 3, IMGSZ, 2 * IMGSZ)


def test_a_record_comes_back_as_it_was(checkpoints: tuple[Path, Path]) -> None:
    (record,) = measure([timed(checkpoints[0])], None, setting(), n_rounds=ROUNDS, tell=silent)
    assert parse_latency(json.dumps(record.to_dict())) == record
    for broken in ("", "[]", "{}", json.dumps({**record.to_dict(), "version": 99})):
        with pytest.raises(RecordError):
            parse_latency(broken)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch": 0}, "batch 0 is not possible; give a whole number from 1 up."),
        ({"threads": -1}, "threads -1 is not possible; give a whole number from 1 up."),
        ({"precision": "int8"}, "Backend torch does not compute in int8; choose one of fp32."),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        setting(**changes)
    assert str(caught.value) == sentence


def test_what_is_not_there_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_here("torch") == ""
    monkeypatch.setattr("compression.deployment.backends.torch.cuda.is_available", lambda: False)
    assert why_not_here("cuda") == (
        "Backend cuda is left out: this machine has no NVIDIA GPU that PyTorch can use; run on a machine with an "
        "NVIDIA GPU."
    )
    missing = replace(BACKENDS["openvino"], module="no_such_module")
    monkeypatch.setitem(BACKENDS, "openvino", missing)
    assert why_not_here("openvino") == (
        "Backend openvino is left out: openvino is not installed; run: pip install 'trimboard[deploy]'."
    )


def bench(*arguments: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "N_ROUNDS", ROUNDS)
        return run_command(add_bench_command, "bench", *arguments)


class TestCommand:
    def test_json_is_the_records(self, checkpoints: tuple[Path, Path]) -> None:
        whole, narrow = map(str, checkpoints)
        written = json.loads(bench(narrow, "--against", whole, "--backend", "torch", "--json"))
        (record,) = [parse_latency(json.dumps(each)) for each in written]
        assert isinstance(record, LatencyRecord)
        # The size that the checkpoint was cut at.
        assert record.spec.imgsz == IMGSZ
        assert record.ratio is not None

    def test_the_table_says_what_is_not_in_the_time(
        self, checkpoints: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("compression.deployment.backends.torch.cuda.is_available", lambda: False)
        whole, narrow = map(str, checkpoints)
        header, *rows, told = bench(whole, narrow, "--backend", "torch,cuda", "--imgsz", "64").splitlines()
        assert header.split() == [
            "model", "level", "backend", "precision", "median_ms", "p95_ms", "ratio", "memory_mb", "file_mb",
        ]  # fmt: skip
        assert [row.split()[0] for row in rows] == ["whole", "narrow"]
        assert "1 thread" in told
        assert "against whole; forward pass only" in told
        assert "Backend cuda is left out: " in capsys.readouterr().err

    def test_each_precision_is_timed_where_a_backend_computes_in_it(
        self, checkpoints: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        if reason := why_not_here("onnx"):
            pytest.skip(reason)
        question = ("--backend", "torch,onnx", "--precision", "fp32,fp16", "--imgsz", "64")
        _, *rows, _ = bench(str(checkpoints[0]), *question).splitlines()
        timed = [("torch", "fp32"), ("onnx", "fp32"), ("onnx", "fp16")]
        assert [(row.split()[2], row.split()[4]) for row in rows] == timed
        assert "Backend torch does not compute in fp16, which is left out." in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--precision", "int4"), "There is no precision 'int4'; choose from fp32, fp16, int8."),
            (("--backend", "tpu"), "There is no backend 'tpu'; choose some of torch, onnx, openvino, tensorrt, cuda."),
            (("--backend", ","), "There is no backend ','; choose some of torch, onnx, openvino, tensorrt, cuda."),
            (("--backend", "cuda"), "None of the backends can run on this machine."),
            (("--threads", "0"), "threads 0 is not possible; give a whole number from 1 up."),
        ],
    )
    def test_faults_are_one_sentence(
        self,
        arguments: tuple[str, ...],
        sentence: str,
        checkpoints: tuple[Path, Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("compression.deployment.backends.torch.cuda.is_available", lambda: False)
        with pytest.raises(SpecError) as caught:
            bench(str(checkpoints[0]), *arguments)
        assert str(caught.value) == sentence
