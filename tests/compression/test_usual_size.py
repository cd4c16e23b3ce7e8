"""The image size where nobody asks for one: the checkpoint's own, settled once it is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cache.store import own_store
from compression.catalog import TaskName
from compression.cli.main import main
from compression.data.dataset import open_dataset
from compression.jobs.submit import submit
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector, read_checkpoint
from compression.pipeline import ask_also, open_request
from compression.pruning.cut import plan, prune
from compression.request import RunRequest
from compression.spec import WITHOUT_IMAGES, Target
from tests.compression.task_data import architecture, draw

CUT = Target(gflops_kept=0.7, params_kept=None)

# A checkpoint and its data set.
Made = tuple[str, str]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Made]:
    """Makes a checkpoint of a task that is called best.pt: of another's training at a size, or of a run of ours."""

    def build(task: TaskName, *, trained_at: int | None = None, run_at: int | None = None) -> Made:
        dataset = open_dataset(str(draw(tmp_path / "data", task)), task)
        module = open_detector(str(architecture(tmp_path, task)), nc=dataset.nc).module
        module.names = dict(dataset.names)
        file = tmp_path / "best.pt"
        if run_at is None:
            torch.save({"model": module, "train_args": {"imgsz": trained_at} if trained_at else {}}, file)
        else:
            write_checkpoint(module, file, {"imgsz": run_at})
        return str(file), str(dataset.yaml_file)

    return build


@pytest.mark.parametrize(
    ("task", "made_at", "usual"),
    [
        ("classify", {"trained_at": 96}, 96),
        ("classify", {}, 224),
        ("classify", {"run_at": 64}, 64),
        ("detect", {"trained_at": 96}, 640),
        ("detect", {"run_at": 96}, 96),
        # What is no number is no size.
        ("detect", {"run_at": "large"}, 640),
    ],
)
def test_plans_cuts_and_runs_take_the_usual_size(
    task: TaskName, made_at: dict[str, int], usual: int, made: Callable[..., Made]
) -> None:
    model, data = made(task, **made_at)
    assert plan(model, target=CUT).imgsz == plan(model, target=CUT, imgsz=usual).imgsz == usual
    assert plan(model, target=CUT, imgsz=128).imgsz == 128
    request = RunRequest(model=model, data=data, level=0, device="cpu")
    question = open_request(request)
    assert (question.spec.imgsz, question.request.imgsz) == (usual, usual)
    assert question.spec.key == open_request(replace(request, imgsz=usual)).spec.key
    further = ask_also(question, replace(request, level=3))
    assert (further.spec.imgsz, further.request.imgsz) == (usual, usual)
    assert ask_also(question, replace(request, imgsz=128)).spec.imgsz == 128


def test_the_commands_take_it_too(made: Callable[..., Made], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, _ = made("classify", trained_at=96)
    main(["plan", model, "--keep-gflops", "0.7"])
    assert "best, custom target, 96 pixels, 2 classes" in capfd.readouterr().out
    out = tmp_path / "out.pt"
    main(["prune", model, "--keep-gflops", "0.7", "--out", str(out)])
    assert read_checkpoint(out)[1]["imgsz"] == 96
    # The costs are those of that size.
    found = prune(model, target=CUT).plan.before
    assert found == prune(model, target=CUT, imgsz=96).plan.before
    assert found != prune(model, target=CUT, imgsz=128).plan.before


def test_a_queued_run_keeps_its_size_whatever_becomes_of_the_file(made: Callable[..., Made]) -> None:
    model, data = made("classify", trained_at=96)
    request = RunRequest(model=model, data=data, level=3, method=WITHOUT_IMAGES, device="cpu")
    (sent,) = submit([request])
    assert [each.state for each in submit([replace(request, imgsz=96)])] == ["waiting"]
    queue = own_store().queue
    queue.cancel(sent.key)
    queue.resume(sent.key)
    status = queue.find(sent.key)
    assert status.request is not None
    assert (status.state, status.spec.imgsz, status.request.imgsz) == ("queued", 96, 96)
    # The process that takes it opens it anew, and finds the same question.
    assert open_request(status.request).spec.key == sent.key
    assert "--imgsz=96" in status.request.command()


def test_a_size_of_nothing_is_refused(capfd: pytest.CaptureFixture[str], made: Callable[..., Made]) -> None:
    model, data = made("detect", run_at=64)
    with pytest.raises(SystemExit):
        main(["run", model, "--data", data, "--level", "3", "--imgsz", "0"])
    assert "'0' is no size; give pixels as in 640" in capfd.readouterr().err
