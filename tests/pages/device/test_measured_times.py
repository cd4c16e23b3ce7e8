"""Times of a level as the page shows them, and the command for those that are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cache.record import RunRecord
from cache.series import series_of
from cache.timings import times_of
from compression.spec import Target
from pages.parts.device.measured_times import bench_command, measured_times, ratios_of
from tests import factories

ORIGINAL = factories.with_checkpoint(factories.original("yolo26s", 4.0, 0.72), b"x", "0" * 64)
WEIGHTS = ORIGINAL.spec.weights_sha256 if ORIGINAL.spec else None
LEVELS = [factories.cut_of(ORIGINAL, level) for level in (3, 5)]
SERIES = series_of([ORIGINAL, *LEVELS])[0]

# The conditions that the levels were measured under.
ALIKE = f"--imgsz {ORIGINAL.imgsz} --head {ORIGINAL.head}"


def _sha256(record: RunRecord) -> str:
    assert record.checkpoint_sha256 is not None
    return record.checkpoint_sha256


def test_the_newest_time_of_each_setting_is_shown_with_its_ratio_to_the_original() -> None:
    third = _sha256(LEVELS[0])
    latencies = [
        factories.timed(third, WEIGHTS, 0.9),
        replace(factories.timed(third, WEIGHTS, 0.8), created="2026-06-02"),
        # In turn with something else, and alone.
        replace(factories.timed(third, "1" * 64, 0.1), created="2026-06-03"),
        replace(factories.timed(third, None, 0.5, backend="torch", imgsz=640), created="2026-05-03"),
        factories.timed(_sha256(LEVELS[1]), WEIGHTS, 0.7),
        # Against the original in another precision or at another image size: another lever beside the cut.
        factories.timed(third, WEIGHTS, 0.3, precision="int8", reference_precision="fp32"),
        factories.timed(third, WEIGHTS, 0.6, imgsz=256, reference_imgsz=320),
    ]
    times = measured_times(LEVELS[0], latencies, {WEIGHTS or ""})
    assert times.rows.to_dict("records") == [
        {
            "Measured on": "onnx 1.2, fp32, 1 thread",
            "Median": "16 ms",
            "95% below": "17.6 ms",
            "Original = 1": "0.800 (0.790 to 0.810)",
        },
        {
            "Measured on": "torch 1.2, fp32, 1 thread, 640 px",
            "Median": "10 ms",
            "95% below": "11 ms",
            "Original = 1": "not timed",
        },
    ]
    assert times.line == "onnx 16 ms, 0.800 (0.790 to 0.810) of the original's"
    assert times.note.startswith("a processor. Forward pass only")


def test_machines_are_told_apart() -> None:
    third = _sha256(LEVELS[0])
    latencies = [factories.timed(third, WEIGHTS, 0.9, machine=machine) for machine in ("one", "another")]
    times = measured_times(LEVELS[0], latencies, {WEIGHTS or ""})
    assert sorted(times.rows["Measured on"]) == [
        "onnx 1.2, fp32, 1 thread, another",
        "onnx 1.2, fp32, 1 thread, one",
    ]


def test_nothing_was_timed() -> None:
    times = measured_times(LEVELS[0], [], {"0" * 64})
    assert (times.rows.empty, times.line, times.note) == (True, "", "")


def test_the_setting_with_most_checkpoints_comes_first() -> None:
    third, fifth = map(_sha256, LEVELS)
    latencies = [
        factories.timed(third, WEIGHTS, 0.9),
        factories.timed(third, WEIGHTS, 0.9, backend="torch"),
        factories.timed(fifth, WEIGHTS, 0.8, backend="torch"),
        # Of another size, of another original, and without one.
        factories.timed(fifth, WEIGHTS, 0.8, imgsz=640),
        factories.timed(fifth, "1" * 64, 0.8),
        factories.timed(fifth, None, 0.8),
    ]
    times = times_of(latencies, {WEIGHTS or ""}, imgsz=320, head="e2e")
    assert [(setting.backend, sorted(own)) for setting, own in times.items()] == [
        ("torch", sorted([third, fifth])),
        ("onnx", [third]),
    ]
    (first, *_) = times.values()
    assert ratios_of(SERIES, first) == {third: 0.9, fifth: 0.8, WEIGHTS: 1.0, "0" * 64: 1.0}


def test_the_command_times_what_is_here_and_was_not_timed(tmp_path: Path) -> None:
    small = factories.with_checkpoint(factories.original("yolo26n", 1.0, 0.6), b"x", "9" * 64)
    larger = factories.with_checkpoint(factories.original("yolo26m", 9.0, 0.8), b"x", "8" * 64)
    latencies = [factories.timed(_sha256(LEVELS[0]), WEIGHTS, 0.9)]
    times = times_of(latencies, {WEIGHTS or ""}, imgsz=320, head="e2e")
    command = bench_command(SERIES, [small, larger], times, lambda record: tmp_path)
    keys = [record.key[:12] for record in (LEVELS[1], small)]
    assert command == f"trimboard bench {keys[0]} {keys[1]} --against {ORIGINAL.key[:12]} {ALIKE}"
    assert bench_command(SERIES, [], times, lambda record: tmp_path if record.level == 0 else None) == ""
    # Neither the original's checkpoint nor the file that was given is here.
    assert bench_command(SERIES, [], {}, lambda record: tmp_path if record.level else None) == ""


def test_the_original_is_timed_from_the_file_that_was_given(tmp_path: Path) -> None:
    given = tmp_path / "my model.pt"
    given.write_bytes(b"x")
    level = factories.cut_of(factories.original("yolo26s", 4.0, 0.72, model=str(given)), 5)
    assert level.spec is not None
    uncut = replace(level.spec, level=None, target=Target(gflops_kept=1.0, params_kept=1.0))
    (series,) = series_of([level, replace(level, level=None, spec=uncut, key="f" * 64)])
    command = bench_command(series, [], {}, lambda record: tmp_path)
    assert command == f"trimboard bench {level.key[:12]} --against '{given}' {ALIKE}"
