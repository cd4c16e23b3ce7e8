"""The command line as a user types it: in a process of its own, with its exit code, stdout and stderr."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from compression.cli.main import main
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector, read_checkpoint

ROOT = Path(__file__).parents[3]
SMALL = ("--imgsz", "64", "--batch", "4", "--device", "cpu")


def trimboard(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m compression` and wait for it."""
    return subprocess.run(
        [sys.executable, "-m", "compression", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=cwd or ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_a_users_way(tmp_path: Path, tiny_shapes: Path) -> None:
    """Run a level, run it again, look at it, evaluate its checkpoint, put it side by side."""
    question = ("run", "yolo26n.yaml", "--data", str(tiny_shapes), "--level", "5", "--epochs", "1", *SMALL)
    first = trimboard(*question, "--json")
    assert first.returncode == 0, first.stderr
    answer = json.loads(first.stdout)
    assert answer["cached"] is False
    assert answer["record"]["level"] == 5
    assert "fine-tuning 1/1 epochs" in first.stderr

    second = trimboard(*question)
    assert second.returncode == 0, second.stderr
    assert "From the cache" in second.stdout
    assert "after recovery" not in first.stdout
    assert re.search(r"before training: 0\.\d{3} after the cut, 0\.\d{3} after recovery", second.stdout)
    for row in ("GFLOPs", "Parameters", "mAP50", "mAP50-95", "Precision", "Recall"):
        assert row in second.stdout

    evaluated = trimboard("evaluate", answer["checkpoint"], "--data", str(tiny_shapes), "--json", "--device", "cpu")
    assert evaluated.returncode == 0, evaluated.stderr
    metrics = json.loads(evaluated.stdout)
    assert (metrics["imgsz"], metrics["head"]) == (64, "e2e")
    assert metrics["map50_95"] == answer["record"]["metrics"]["map50_95"]

    file = tmp_path / "comparison.csv"
    compared = trimboard("compare", "--model", "yolo26n", "--data", "tiny-shapes", "--csv", str(file))
    assert compared.returncode == 0, compared.stderr
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    (level_5,) = (row for row in rows if row["level"] == "5")
    assert int(level_5["params"]) == answer["record"]["costs"]["params"]
    assert float(level_5["map50_95"]) == answer["record"]["metrics"]["map50_95"]


class TestPlan:
    def test_json_stands_alone_on_stdout(self) -> None:
        done = trimboard("plan", "yolo26n.yaml", "--level", "5", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert set(found) >= {"model", "imgsz", "level", "target", "before", "after", "layers", "seconds"}
        assert found["target"] == {"gflops_kept": 0.78, "params_kept": 0.75, "latency": None, "layers": []}
        assert set(found["before"]) == {"gflops", "params", "gflops_deployed", "params_deployed"}
        assert set(found["layers"][0]) == {
            *("name", "type", "channels_before", "channels_after"),
            *("gflops_before", "gflops_after", "params_before", "params_after", "locked"),
        }
        assert (found["model"], found["imgsz"], found["before"]["params"]) == ("yolo26n", 640, 2572280)

    def test_all_levels_at_once(self, capfd: pytest.CaptureFixture[str]) -> None:
        main(["plan", "yolo11n.yaml", "--level", "all", "--imgsz", "320", "--json"])
        assert [plan["level"] for plan in json.loads(capfd.readouterr().out)] == [1, 2, 3, 4, 5]

    def test_text_tells_costs_and_layers(self, capfd: pytest.CaptureFixture[str]) -> None:
        main(["plan", "yolo26n.yaml", "--keep-gflops", "0.5", "--imgsz", "320"])
        out = capfd.readouterr().out
        assert "custom target" in out
        assert "ranked by l2, cut shared out by uniform" in out
        assert "-50.0%" in out
        assert "channels" in out


class TestPrune:
    def test_writes_a_checkpoint_and_tells_its_costs(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "cut.pt"
        main(["prune", "yolov8n.yaml", "--level", "2", "--imgsz", "320", "--out", str(file), "--json"])
        found = json.loads(capfd.readouterr().out)
        assert found["after"]["params"] < found["before"]["params"]
        assert file.stat().st_size > 1_000_000

    def test_with_a_data_set_it_recovers(
        self, tmp_path: Path, tiny_shapes: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        model, file = tmp_path / "mine.pt", tmp_path / "cut.pt"
        write_checkpoint(open_detector("yolo26n.yaml", nc=10).module, model, {})
        question = ("--level", "5", "--imgsz", "64", "--out", str(file))
        main(["prune", str(model), "--data", str(tiny_shapes), *question])
        keeps = f"`trimboard run {file} --data {tiny_shapes} --keep-gflops 1 --keep-params 1` trains it as it is."
        assert capfd.readouterr().out.endswith(f"Ultralytics' own training would undo the cut; {keeps}\n")
        _, info = read_checkpoint(file)
        assert (info["criterion"], info["allocation"], info["recovery"]) == ("obs", "budget", "least_squares")


class TestLists:
    def test_models(self, capfd: pytest.CaptureFixture[str]) -> None:
        main(["models", "--json"])
        models = json.loads(capfd.readouterr().out)
        # Detectors, and what Ultralytics has of them to segment, for poses, for rotated boxes and to classify.
        assert len(models) == 84 + 27 + 25 + 20 + 20
        assert {"model": "yolo26s.pt", "params": 10009784, "gflops_640": 22.8}.items() <= models[1].items()

    def test_datasets(self, capfd: pytest.CaptureFixture[str]) -> None:
        main(["datasets"])
        out = capfd.readouterr().out
        assert "shapes" in out
        assert "coco" in out

    def test_comparison_shows_what_is_published(self, capfd: pytest.CaptureFixture[str]) -> None:
        main(["compare", "--model", "yolo26s", "--data", "coco"])
        assert "published" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--epochs", "-1"),
        ("--batch", "0"),
        ("--seed", "-5"),
        ("--patience", "0"),
        ("--recipe", "magic"),
        ("--criterion", "magic"),
        ("--allocation", "magic"),
        ("--recovery", "magic"),
        ("--steps", "0"),
        ("--calibration-images", "-1"),
        ("--classes", "unicorn"),
        ("--classes", "10"),
        ("--device", "cuda:9"),
        ("--device", "gpu"),
    ],
)
def test_bad_run_options_name_the_value(
    option: str, value: str, tiny_shapes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "yolo26n.yaml", "--data", str(tiny_shapes), "--level", "1", option, value])
    assert stopped.value.code == 2
    assert value in capfd.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        *("models", "datasets", "plan", "prune", "run", "evaluate", "compare"),
        *("bench", "levers", "export", "detections", "sensitivity", "report"),
    ],
)
def test_every_command_has_help_and_stands_in_the_readme(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert "usage" in capsys.readouterr().out
    assert f"trimboard {command}" in (ROOT / "README.md").read_text()
