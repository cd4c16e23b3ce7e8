"""What each layer is worth: cuts of one group alone, without surgery, and what is kept of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from cache.sensitivity import SensitivityRecord, SensitivitySpec
from cache.shipped import SHIPPED
from cache.store import own_store
from compression.accuracy.evaluation import evaluate, validate
from compression.catalog import TaskName
from compression.cli.main import main
from compression.data.dataset import Dataset, open_dataset
from compression.data.loaded_images import load_validation_images
from compression.deployment.latency import opened
from compression.graph.costs import shown_as
from compression.graph.layer_groups import MIN_GROUP_KEPT
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector, read_checkpoint
from compression.models.kinds import KINDS, LEAST_STRIDE
from compression.models.tasks import TASKS
from compression.pruning import sensitivity
from compression.pruning.planner import Planner
from compression.pruning.sensitivity import N_QUANTILES, measure_sensitivity
from compression.pruning.surgery import keep_channels, silence_others
from compression.spec import HeadName
from tests.compression.small_models import build, outputs, planner
from tests.compression.task_data import architecture, draw

TRAINED = SHIPPED / "shapes" / "yolo26n.pt"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkpoint of few layers with random weights that knows the classes of the built-in data set."""
    return _written(tmp_path / "small.pt", nc=10)


def _written(file: Path, nc: int) -> Path:
    model = build([-1, 1, "C2f", [64, True]], nc=nc)
    model.args = {}
    write_checkpoint(model, file, {})
    return file


def test_silenced_channels_compute_what_their_removal_does() -> None:
    # Trained, so that each cut shows far beyond what sums of another order differ by.
    model, _ = read_checkpoint(TRAINED)
    found, full = Planner(model, 64), outputs(model)
    # All groups would take half a minute; one in twelve holds each kind of block.
    for unit, kept in list(found.cut_alone(0.5).items())[::12]:
        ours = outputs(silence_others(model, found.trace, kept))
        theirs = outputs(keep_channels(model, found.trace, kept))
        error = max(float((our - their).abs().max()) for our, their in zip(ours, theirs, strict=True))
        effect = max(float((our - before).abs().max()) for our, before in zip(ours, full, strict=True))
        assert error < 1e-4 * effect, found.trace.groups[unit[0]].name


def test_a_cut_takes_the_weakest_half_of_one_group_in_steps_and_leaves_the_others() -> None:
    found = planner("yolo26n")
    groups = found.trace.groups
    cuts = found.cut_alone(0.5)
    assert set(cuts) == {tie for tie in found.trace.ties if groups[tie[0]].locked is None}
    for unit, kept in cuts.items():
        for index, (group, channels) in enumerate(zip(groups, kept, strict=True)):
            if index in unit:
                assert max(1, MIN_GROUP_KEPT * group.width) <= len(channels) <= 0.75 * group.width
                gone = np.setdiff1d(np.arange(group.width), channels)
                scores = found._scores[index]
                assert scores[gone].max() <= scores[channels].min()
            else:
                assert len(channels) == group.width
    # A narrow layer gives up single channels, a wide one whole steps.
    (wide,) = [kept for unit, kept in cuts.items() if groups[unit[0]].name == "model.7.conv"]
    assert len(wide[next(i for i, group in enumerate(groups) if group.name == "model.7.conv")]) == 128
    # No group goes below its floor, however much is asked for.
    for unit, kept in found.cut_alone(1.0).items():
        assert all(len(kept[index]) >= MIN_GROUP_KEPT * groups[index].width for index in unit)


def test_the_accuracy_is_that_of_the_narrower_model(
    tiny_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _ = read_checkpoint(TRAINED)
    found = Planner(module, 160)
    wanted = next(unit for unit in found.cut_alone(0.5) if found.trace.groups[unit[0]].name == "model.16.cv2.conv")
    kept = found.cut_alone(0.5)[wanted]
    # All others would take as long each.
    monkeypatch.setattr(Planner, "cut_alone", lambda *_: {wanted: kept})
    dataset = open_dataset(str(tiny_shapes))
    told: list[str] = []
    record = measure_sensitivity(
        opened(str(TRAINED)), dataset, imgsz=160, head="e2e", device="cpu", tell=lambda it: told.append(it.stage)
    )
    narrow = tmp_path / "narrow.pt"
    write_checkpoint(keep_channels(module, found.trace, kept), narrow, {})
    for file, ours in ((TRAINED, record.map50_95), (narrow, record.groups_of("model.16.cv2")[0].map50_95)):
        theirs = evaluate(file, dataset, imgsz=160, batch=16, device="cpu")
        assert theirs.map50_95 is not None
        assert theirs.map50_95 > 0.05
        assert ours == pytest.approx(theirs.map50_95, abs=1e-4)
    assert told[-1] == "cutting only model.16.cv2, 1 of 1"
    (cut,) = [group for group in record.groups if group.name == "model.16.cv2"]
    assert (cut.channels_before, cut.channels_after) == (64, 32)
    # Depthwise convolutions of the head give what they read.
    assert cut.layers == ("model.16.cv2", "model.23.cv3.0.0.0", "model.23.one2one_cv3.0.0.0")
    assert len(cut.importance) == N_QUANTILES
    assert (record.model, record.data, record.n_val, record.spec.n_images) == ("yolo26n", "tiny-shapes", 6, 6)
    assert (record.n_backbone, record.n_blocks) == (11, 24)
    # The head that only trains gives no predictions.
    assert {group.name.split(".")[2] for group in record.groups if not group.predicts} == {"cv2", "cv3"}
    (locked,) = [group for group in record.groups if group.layers == ("model.23.one2one_cv2.0.2",)]
    assert (locked.locked, locked.map50_95, locked.importance) == ("the outputs of the head", None, ())


def _measure(checkpoint: Path, data: Path, capfd: pytest.CaptureFixture[str], *options: str) -> SensitivityRecord:
    arguments = ("sensitivity", str(checkpoint), "--data", str(data), "--imgsz", "64", "--device", "cpu")
    main([*arguments, *options, "--json"])
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    record = own_store().find_sensitivity(SensitivitySpec(**json.loads(out)["spec"]).key)
    assert record is not None
    assert json.loads(json.dumps(record.to_dict())) == json.loads(out)
    return record


def test_the_command_measures_once_and_tells_every_group(
    small: Path, tiny_shapes: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = _measure(small, tiny_shapes, capfd, "--images", "4")
    assert record.spec.n_images == 4
    assert record.spec.head == "nms"
    coupled = [group for group in record.groups if len(group.layers) > 1]
    assert any("model.2.m.0.cv2" in group.layers for group in coupled)
    for group in record.groups:
        assert (group.locked is None) == (group.map50_95 is not None)
        assert (group.locked is None) == (group.channels_after < group.channels_before)
        assert (group.locked is None) == (group.params_saved > 0) == bool(group.importance)

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the answer is stored")

    monkeypatch.setattr(sensitivity, "_measured", refuse)
    assert _measure(small, tiny_shapes, capfd, "--images", "4") == record
    main(["sensitivity", str(small), "--data", str(tiny_shapes), "--imgsz", "64", "--images", "4"])
    out, _ = capfd.readouterr()
    assert out.startswith("small has mAP50-95 0.000 on 4 of 6 validation images of tiny-shapes (nms head, 64 pixels).")
    assert "channels stay, the outputs of the head" in out
    assert [word in out for word in ("points_lost", "gflops_saved", "params_saved")] == [True] * 3


def _of_task(folder: Path, task: TaskName) -> tuple[Path, Dataset]:
    """A checkpoint of the smallest model of a task, with random weights, and the data set that is drawn for it."""
    dataset = open_dataset(str(draw(folder / "data", task)), task)
    detector = open_detector(str(architecture(folder, task)), nc=dataset.nc, kpt_shape=dataset.kpt_shape)
    detector.module.names = dict(dataset.names)
    checkpoint = folder / f"{task}.pt"
    write_checkpoint(detector.module, checkpoint, {})
    return checkpoint, dataset


@pytest.mark.parametrize("task", [task for task in get_args(TaskName) if task != "detect"])
def test_every_task_is_measured_by_its_own_accuracy(
    task: TaskName, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, dataset = _of_task(tmp_path, task)
    all_cuts = Planner.cut_alone
    # All others would take as long each.
    monkeypatch.setattr(Planner, "cut_alone", lambda *asked: dict(list(all_cuts(*asked).items())[-2:]))
    # Class folders are given by their folder, labels by their data.yaml.
    data = dataset.yaml_file
    record = _measure(checkpoint, data, capfd)
    head: HeadName = "nms" if task == "classify" else "e2e"
    whole = evaluate(checkpoint, dataset, imgsz=64, batch=16, device="cpu", head=head)
    assert (record.task, record.spec.head, record.spec.n_images, record.n_val) == (task, head, 4, 4)
    assert record.map50_95 == whole.map50_95
    assert sum(group.map50_95 is not None for group in record.groups) == 2
    assert all(group.layers for group in record.groups)
    # What only trains the model is the other head, whole.
    idle = {group.name for group in record.groups if not group.predicts}
    assert bool(idle) == (head == "e2e")
    main(["sensitivity", str(checkpoint), "--data", str(data), "--imgsz", "64"])
    out, _ = capfd.readouterr()
    assert f"{task} has {TASKS[task].main} {record.map50_95:.3f} on 4 of 4 validation images" in out
    assert ("64 pixels" in out, "class scores, 64" in out) == (True, task == "classify")


def test_top_1_of_a_cut_classifier_is_that_of_the_narrower_one(tmp_path: Path) -> None:
    checkpoint, dataset = _of_task(tmp_path, "classify")
    module, _ = read_checkpoint(checkpoint)
    found = Planner(module, 64)
    record = measure_sensitivity(opened(str(checkpoint)), dataset, imgsz=64, head="nms", n_images=1, device="cpu")
    (batch,) = load_validation_images(dataset, imgsz=64, batch=1, stride=32, n_images=1)
    for unit, kept in found.cut_alone(0.5).items():
        narrow = keep_channels(module, found.trace, kept).eval()
        with torch.no_grad():
            right = int(narrow(batch["img"])[0].argmax(1) == batch["cls"])
        (group,) = [one for one in record.groups if one.name == shown_as(found.trace.groups[unit[0]].name)]
        assert group.map50_95 == right


@pytest.mark.parametrize("task", get_args(TaskName))
def test_images_in_memory_are_what_the_validator_of_the_task_reads_itself(task: TaskName, tmp_path: Path) -> None:
    checkpoint, dataset = _of_task(tmp_path, task)
    seen: list[dict[str, Any]] = []

    class Noting(KINDS[task].validator):  # type: ignore[misc]
        def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
            noted = {name: value.clone() if torch.is_tensor(value) else value for name, value in batch.items()}
            # A classifier's validator shuffles, which its accuracy does not mind.
            order = noted["img"].flatten(1).double().mean(1).argsort()
            seen.append({name: value[order] for name, value in noted.items()} if task == "classify" else noted)
            return super().preprocess(batch)

    images = load_validation_images(dataset, imgsz=64, batch=4, stride=LEAST_STRIDE, n_images=200)
    # Twice, since a validator computes within what it is given.
    for given in (None, images, images):
        model, _ = read_checkpoint(checkpoint)
        head = "nms" if task == "classify" else "e2e"
        how: dict[str, Any] = {"imgsz": 64, "batch": 4, "device": "cpu", "head": head, "rect": True}
        validate(model, dataset, **how, validator_class=Noting, images=given)
    own, *others = seen
    assert len(others) == 2
    for other in others:
        assert other.keys() == own.keys()
        for name, value in own.items():
            same = torch.equal(other[name], value) if torch.is_tensor(value) else repr(other[name]) == repr(value)
            assert same, name


def test_some_images_are_the_same_ones_each_time_and_all_are_all(tiny_shapes: Path) -> None:
    dataset = open_dataset(str(tiny_shapes))
    names = {
        n_images: sorted(
            Path(file).name
            for batch in load_validation_images(dataset, imgsz=64, batch=2, stride=32, n_images=n_images)
            for file in batch["im_file"]
        )
        for n_images in (3, 6, 200)
    }
    assert [len(found) for found in names.values()] == [3, 6, 6]
    # The first, the last, and what lies evenly between.
    assert names[3] == [names[6][place] for place in (0, 2, 5)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere.pt",), "There is no model 'nowhere.pt'"),
        (("yolo26n.yaml",), "'yolo26n.yaml' has random weights"),
        ((str(TRAINED), "--images", "0"), "--images 0 is not possible"),
        ((str(TRAINED), "--imgsz", "50"), "Image size 50 is no multiple of this model's stride 32; use 64"),
        ((str(TRAINED), "--classes", "unicorn"), "unicorn"),
        ((str(TRAINED), "--device", "cuda:9"), "Device 'cuda:9' is not there"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: tuple[str, ...], sentence: str, tiny_shapes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["sensitivity", *arguments, "--data", str(tiny_shapes)])
    out, err = capfd.readouterr()
    (line,) = [line for line in err.splitlines() if not line.startswith("[trimboard] ")]
    assert (stopped.value.code, out) == (2, "")
    assert sentence in line


def test_a_model_of_other_classes_is_refused(
    tmp_path: Path, tiny_shapes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = _written(tmp_path / "other.pt", nc=3)
    with pytest.raises(SystemExit):
        main(["sensitivity", str(other), "--data", str(tiny_shapes), "--imgsz", "64"])
    assert "'other.pt' predicts 3 classes and 'tiny-shapes' has 10" in capfd.readouterr().err
