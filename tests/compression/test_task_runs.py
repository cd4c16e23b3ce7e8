"""Each task from a drawn data set to a result: cut, recovered, fine-tuned, measured by its own metrics, exported."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
import yaml
from ultralytics.models.yolo.segment import SegmentationValidator
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.metrics import OKS_SIGMA

from cache.comparison import COLUMNS, comparison, published_table
from cache.record import RunRecord
from compression.accuracy.class_scores import classify
from compression.accuracy.detections import detect
from compression.accuracy.evaluation import evaluate
from compression.accuracy.forms import Form, KeyPoints, Mask, RotatedBox
from compression.accuracy.labels import validation_images
from compression.catalog import TaskName
from compression.data.calibration import load_calibration
from compression.data.class_folders import validation_files
from compression.data.classes import keep_classes
from compression.data.dataset import open_dataset
from compression.data.images import read_image
from compression.deployment.deploy import deploy
from compression.errors import DatasetError, ModelError, SpecError, TrimboardError
from compression.graph.blocks import training_only
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import (
    kpt_shape_of,
    needs_training,
    open_detector,
    read_checkpoint,
    same_classes,
    with_classes,
)
from compression.models.tasks import TASKS, accuracy_names
from compression.pipeline import Outcome, compress, open_request
from compression.pruning.cut import prune
from compression.pruning.evidence import moments
from compression.pruning.planner import Planner
from compression.pruning.surgery import raw_outputs
from compression.request import RunRequest
from compression.spec import RunSpec, Target
from compression.wishes import parse_wishes
from tests.compression.task_data import CLASSES, KPT_SHAPE, SPLITS, architecture, draw

# The smallest models are too small for both costs of a level.
CUT = Target(gflops_kept=0.7, params_kept=None)
OTHERS: tuple[TaskName, ...] = ("segment", "pose", "obb", "classify")
tasks = pytest.mark.parametrize("task", OTHERS)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a data set and an architecture for each task."""
    folder = tmp_path_factory.mktemp("tasks")
    for task in get_args(TaskName):
        draw(folder / f"drawn-{task}", task)
        architecture(folder, task)
    return folder


def data_of(here: Path, task: TaskName) -> str:
    folder = here / f"drawn-{task}"
    return str(folder if task == "classify" else folder / "data.yaml")


@pytest.fixture(scope="module")
def runs(here: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[TaskName, Outcome]:
    """A cut of each task, and its checkpoint in the folder of the data sets."""
    done: dict[TaskName, Outcome] = {}
    with pytest.MonkeyPatch.context() as patch:
        for task in OTHERS:
            patch.setenv("TRIMBOARD_HOME", str(tmp_path_factory.mktemp(task)))
            done[task] = compress(
                str(here / f"tiny-{task}.yaml"),
                data_of(here, task),
                target=CUT,
                epochs=1,
                imgsz=64,
                batch=4,
                device="cpu",
            )
    return done


def checkpoint_of(outcome: Outcome) -> Path:
    assert outcome.checkpoint is not None
    return outcome.checkpoint


@tasks
def test_a_run_ends_in_a_result_of_its_task(task: TaskName, runs: dict[TaskName, Outcome]) -> None:
    record = runs[task].record
    assert record.task == task
    assert record.spec is not None
    assert record.spec.task == task
    assert len(record.curve) == 1
    assert record.metrics_pruned is not None
    assert record.metrics_recovered is not None
    for metrics in (record.metrics_original, record.metrics):
        for slot in accuracy_names(task):
            assert 0 <= getattr(metrics, slot) <= 1, slot
    assert (record.metrics.precision is None) == (task == "classify")
    assert set(record.metrics.per_class) == (set() if task == "classify" else set(CLASSES))
    before, after = record.costs_original, record.costs
    assert before.gflops is not None
    assert after.gflops is not None
    assert after.gflops < 0.75 * before.gflops
    module, _ = read_checkpoint(checkpoint_of(runs[task]))
    assert sum(each.numel() for each in module.parameters()) == after.params
    assert module.names == dict(enumerate(sorted(CLASSES) if task == "classify" else CLASSES))


@tasks
def test_its_accuracies_are_called_by_the_task(task: TaskName, runs: dict[TaskName, Outcome]) -> None:
    record = runs[task].record
    names = published_table(record)["Metric"].tolist()[2:]
    assert names == {
        "segment": ["mask mAP50", "mask mAP50-95", "Mask precision", "Mask recall"],
        "pose": ["pose mAP50", "pose mAP50-95", "Pose precision", "Pose recall"],
        "obb": ["rotated mAP50", "rotated mAP50-95", "Rotated precision", "Rotated recall"],
        "classify": ["top-5", "top-1"],
    }.get(task)
    assert "task" in COLUMNS
    assert comparison([record])["task"].tolist() == [task]


def test_masks_are_measured_and_not_their_boxes(here: Path, runs: dict[TaskName, Outcome]) -> None:
    checkpoint, dataset = checkpoint_of(runs["segment"]), open_dataset(data_of(here, "segment"), "segment")
    measured = evaluate(checkpoint, dataset, imgsz=64, batch=4, device="cpu")
    validator = SegmentationValidator(
        args={"data": str(dataset.yaml_file), "imgsz": 64, "batch": 4, "device": "cpu", "nms": False, "plots": False}
    )
    validator(model=read_checkpoint(checkpoint)[0])
    assert measured.map50_95 == round(float(validator.metrics.seg.map), 5)


def test_two_classes_are_all_among_the_first_five(runs: dict[TaskName, Outcome]) -> None:
    assert runs["classify"].record.metrics.map50 == 1


def test_key_points_are_as_many_as_the_data_have(runs: dict[TaskName, Outcome]) -> None:
    module, _ = read_checkpoint(checkpoint_of(runs["pose"]))
    assert kpt_shape_of(module) == KPT_SHAPE


def test_wishes_are_checked_on_a_model_of_the_data_sets_key_points(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_detector(str(here / "tiny-pose.yaml"), nc=len(CLASSES), kpt_shape=(5, 3))
    write_checkpoint(other.module, tmp_path / "other.pt", {})
    planned: list[DetectionModel] = []

    def planner(model: DetectionModel, imgsz: int, *, align: int) -> Planner:
        planned.append(model)
        return Planner(model, imgsz, align=align)

    monkeypatch.setattr("compression.pipeline.Planner", planner)
    wishes = parse_wishes([], ["model.1=16"])
    open_request(
        RunRequest(
            model=str(tmp_path / "other.pt"),
            data=data_of(here, "pose"),
            level=None,
            target=None,
            layers=wishes,
            imgsz=64,
            device="cpu",
        )
    )
    assert [kpt_shape_of(model) for model in planned] == [KPT_SHAPE]


def test_key_points_of_people_have_the_loss_that_ultralytics_has_for_them(here: Path) -> None:
    detector = open_detector(str(here / "tiny-pose.yaml"), nc=1, kpt_shape=(5, 3))
    people = with_classes(detector, {0: "person"}, (17, 3))
    for module in (people, open_detector(str(here / "tiny-pose.yaml"), kpt_shape=(17, 3)).module):
        module.args = SimpleNamespace(**module.args)
        sigmas = module.init_criterion().one2many.keypoint_loss.sigmas
        assert sigmas.tolist() == pytest.approx(OKS_SIGMA.tolist())


def test_keys_of_detectors_are_as_before_there_were_tasks(runs: dict[TaskName, Outcome]) -> None:
    spec = runs["segment"].record.spec
    assert spec is not None
    values = spec.to_dict()
    assert RunSpec.from_dict(values) == spec
    detector = {**values, "task": "detect"}
    older = {name: value for name, value in detector.items() if name != "task"}
    assert RunSpec.from_dict(older).key == RunSpec.from_dict(detector).key != spec.key
    with pytest.raises(SpecError, match="There is no task 'depth'"):
        RunSpec.from_dict({**values, "task": "depth"})


def test_older_records_are_of_detectors(runs: dict[TaskName, Outcome]) -> None:
    values = runs["segment"].record.to_dict()
    del values["spec"]["task"]
    assert RunRecord.from_dict(values).task == "detect"


@pytest.fixture(scope="module")
def reloaded(runs: dict[TaskName, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What plain Ultralytics gives for each checkpoint, in one process without us."""
    folder = tmp_path_factory.mktemp("reloaded")
    for task in OTHERS:
        (folder / f"{task}.pt").write_bytes(checkpoint_of(runs[task]).read_bytes())
    program = """
import sys, torch
from pathlib import Path
from ultralytics import YOLO
image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
for file in sorted(Path(sys.argv[1]).glob("*.pt")):
    model = YOLO(str(file))
    assert model.task == file.stem
    with torch.no_grad():
        raw = model.model.float().eval()(image)[1]
    heads = [{"scores": raw}] if isinstance(raw, torch.Tensor) else raw.values()
    torch.save([v for head in heads for part, v in head.items() if part != "feats"], file.with_suffix(".out"))
    (found,) = model.predict((image[0] * 255).byte().permute(1, 2, 0).numpy(), imgsz=64, verbose=False, conf=1e-6)
    assert getattr(found, dict(segment="masks", pose="keypoints", obb="obb", classify="probs")[file.stem]) is not None
assert not {"compression", "cache", "torch_pruning"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder


@tasks
def test_plain_ultralytics_loads_and_runs_it(task: TaskName, runs: dict[TaskName, Outcome], reloaded: Path) -> None:
    module, _ = read_checkpoint(checkpoint_of(runs[task]))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    theirs = torch.load(reloaded / f"{task}.out")
    ours = raw_outputs(module, image)
    assert len(ours) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@tasks
def test_it_is_exported_and_gives_the_same(
    task: TaskName, here: Path, runs: dict[TaskName, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One epoch leaves a detector that is sure of nothing.
    monkeypatch.setattr("compression.deployment.parity.CONFIDENCE", 1e-6)
    detector = open_detector(str(checkpoint_of(runs[task])))
    exported = deploy(detector, "onnx", imgsz=64, dataset=open_dataset(data_of(here, task), task))
    assert exported.exported.size_bytes > 0
    assert exported.parity is not None
    assert exported.parity.n_images == SPLITS["val"]
    found = exported.parity
    assert found.n_checkpoint == found.n_exported >= SPLITS["val"]
    # Boxes of a model that has learnt nothing lie upon each other, so that a few pairs are of neighbours.
    assert found.n_equal >= 0.9 * found.n_checkpoint
    assert found.max_score == pytest.approx(0, abs=1e-5)


@tasks
def test_criteria_that_look_at_images(task: TaskName, here: Path, runs: dict[TaskName, Outcome]) -> None:
    calibration = load_calibration(open_dataset(data_of(here, task), task), imgsz=64, n_images=3, seed=0)
    assert calibration.images.shape == (3, 3, 64, 64)
    assert calibration.images.dtype == torch.uint8
    module, _ = read_checkpoint(checkpoint_of(runs[task]))
    seen = moments(module, calibration, torch.device("cpu"))
    # Sigma and the semantic branch are in no forward pass but that of a training.
    assert not any(f"{name}.".startswith(training_only(module)) for name in seen)
    assert all(bool(each.gradients.isfinite().all()) for each in seen.values())
    assert any(float(each.gradients.sum()) > 0 for each in seen.values())


# Data of another task


@cache
def sentence_of(model: str, data: str) -> str:
    with pytest.raises(TrimboardError) as caught:
        compress(model, data, level=1, epochs=1, imgsz=64, batch=4, device="cpu")
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "data", "says"),
    [
        ("segment", "detect", "line 1: 5 values; a segmentation model needs polygons: class, x1, y1"),
        ("obb", "detect", "line 1: 5 values; a model of rotated boxes needs four corners: class, x1, y1"),
        ("pose", "detect", "has no `kpt_shape`, which a pose model needs"),
        (
            "classify",
            "detect",
            "take a model that detects, segments or finds poses, or data with a folder for each class",
        ),
        ("detect", "classify", "take a classifier (-cls), or data with boxes."),
        ("segment", "pose", "line 1: 14 values; a segmentation model needs polygons"),
    ],
)
def test_a_model_on_data_of_another_task_is_refused(model: TaskName, data: TaskName, says: str, here: Path) -> None:
    sentence = sentence_of(str(here / f"tiny-{model}.yaml"), data_of(here, data))
    assert says in sentence
    assert "\n" not in sentence


def test_shapes_have_boxes_only(here: Path) -> None:
    assert "'shapes' is labelled with boxes, and a segmentation model needs polygons" in sentence_of(
        str(here / "tiny-segment.yaml"), "shapes"
    )


def test_a_detector_learns_from_outlines(here: Path) -> None:
    assert open_dataset(data_of(here, "segment")).n_train == SPLITS["train"]
    assert open_dataset(data_of(here, "pose")).kpt_shape == KPT_SHAPE


def test_a_checkpoint_of_another_task_is_not_evaluated(here: Path, runs: dict[TaskName, Outcome]) -> None:
    with pytest.raises(
        ModelError, match=r"is a segmentation model and .* was opened for boxes; evaluate it on data with"
    ):
        evaluate(checkpoint_of(runs["segment"]), open_dataset(data_of(here, "detect")), imgsz=64, batch=4)


# Folders of classes


def test_faults_of_class_folders(tmp_path: Path) -> None:
    folder = draw(tmp_path / "drawn", "classify")
    whole = open_dataset(str(folder), "classify")
    assert (whole.names, whole.n_train, whole.n_val) == ({0: "tall", 1: "wide"}, SPLITS["train"], SPLITS["val"])
    (folder / "train" / "none").mkdir()
    with pytest.raises(DatasetError, match="none holds no images; put some there or remove the folder"):
        open_dataset(str(folder), "classify")
    (folder / "train" / "none").rmdir()
    (folder / "val" / "other").mkdir()
    with pytest.raises(DatasetError, match="other is a class that the training images do not have"):
        open_dataset(str(folder), "classify")
    (folder / "val" / "other").rmdir()
    (folder / "val" / "wide" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"bad\.png cannot be read"):
        open_dataset(str(folder), "classify")
    (folder / "val" / "wide" / "bad.png").unlink()
    (folder / "val").rename(folder / "other")
    with pytest.raises(DatasetError, match="has training images and none to measure on"):
        open_dataset(str(folder), "classify")


def test_classes_of_a_classifier_are_chosen_by_folders(here: Path) -> None:
    with pytest.raises(SpecError, match="are folders of whole images; to keep only wide give a folder"):
        compress(str(here / "tiny-classify.yaml"), data_of(here, "classify"), level=1, classes="wide", epochs=1)


def test_a_classifier_that_others_made_is_measured_at_its_own_size(tmp_path: Path, here: Path) -> None:
    opened = open_detector(str(here / "tiny-classify.yaml"), nc=2)
    assert opened.usual_imgsz == 224
    assert open_detector(str(here / "tiny-detect.yaml")).usual_imgsz == 640
    for train_args, usual in (({}, 224), ({"imgsz": 96}, 96)):
        torch.save({"model": opened.module, "train_args": train_args}, tmp_path / "best.pt")
        assert open_detector(str(tmp_path / "best.pt")).usual_imgsz == usual
    write_checkpoint(opened.module, tmp_path / "ours.pt", {"imgsz": 64})
    assert open_detector(str(tmp_path / "ours.pt")).usual_imgsz == 64


@pytest.mark.parametrize("names", [{0: "wide", 1: "tall"}, {0: "tall", 1: "round"}])
def test_a_classifier_of_other_names_is_of_other_classes(names: dict[int, str], tmp_path: Path, here: Path) -> None:
    module = open_detector(str(here / "tiny-classify.yaml"), nc=2).module
    module.names = names
    write_checkpoint(module, tmp_path / "others.pt", {})
    detector, dataset = open_detector(str(tmp_path / "others.pt")), open_dataset(data_of(here, "classify"), "classify")
    assert not needs_training(detector, 2, None, names)
    assert needs_training(detector, 2, None, dataset.names)
    assert with_classes(detector, dataset.names).names == dataset.names
    with pytest.raises(ModelError, match=r"'others.pt' has '(wide|round)' as class [01] and .*; evaluate it on the"):
        evaluate(tmp_path / "others.pt", dataset, imgsz=64, batch=4, device="cpu", head="nms")


def test_codes_of_imagenet_are_known_by_their_names(here: Path) -> None:
    module = open_detector(str(here / "tiny-classify.yaml"), nc=2).module
    module.names = {0: "tench", 1: "goldfish"}
    assert same_classes(module, {0: "n01440764", 1: "n01443537"})
    assert not same_classes(module, {0: "n01443537", 1: "n01440764"})


def test_mirrored_key_points(tmp_path: Path) -> None:
    file = draw(tmp_path / "drawn", "pose")
    file.write_text(file.read_text().replace("- 2\n", "- 1\n"))
    with pytest.raises(DatasetError, match=r"`flip_idx` is \[0, 1, 1\], but must list the 3 key points, 0 to 2"):
        open_dataset(str(file), "pose")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("kpt_shape", [17, 4], "`kpt_shape` is [17, 4], but must be the number of key points, from 1 up, and 2 values"),
        ("kpt_shape", [17, 1], "`kpt_shape` is [17, 1], but must be the number"),
        ("kpt_shape", [-1, 3], "`kpt_shape` is [-1, 3], but must be the number"),
        ("kpt_shape", [0, 3], "`kpt_shape` is [0, 3], but must be the number"),
        ("kpt_oks_sigmas", [0.1, 0.1], "`kpt_oks_sigmas` is [0.1, 0.1], but must list a number above 0 for each of"),
        ("kpt_oks_sigmas", [0.1, 0, 0.1], "`kpt_oks_sigmas` is [0.1, 0, 0.1], but must list a number above 0"),
        ("kpt_oks_sigmas", "half", "`kpt_oks_sigmas` is 'half', but must list a number above 0"),
    ],
)
def test_key_points_that_cannot_be(key: str, value: Any, says: str, tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    content = {"train": "x", "val": "x", "names": ["one"], "kpt_shape": list(KPT_SHAPE), key: value}
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(DatasetError, match=re.escape(says)) as caught:
        open_dataset(str(file), "pose")
    assert "\n" not in str(caught.value)


def test_a_classifier_is_not_distilled(here: Path) -> None:
    with pytest.raises(
        SpecError, match=r"Recipe 'distill' teaches by the feature maps .* 'tiny-classify' is a classifier"
    ):
        compress(
            str(here / "tiny-classify.yaml"), data_of(here, "classify"), level=1, recipe="distill", epochs=1, imgsz=64
        )


def test_what_decides_accuracies_of_poses_is_in_their_fingerprint_alone(tmp_path: Path) -> None:
    file = draw(tmp_path / "drawn", "pose")
    content = yaml.safe_load(file.read_text())
    poses, boxes = set(), set()
    for changes in ({"flip_idx": None}, {}, {"flip_idx": [1, 0, 2]}, {"kpt_oks_sigmas": [0.1, 0.1, 0.2]}):
        file.write_text(yaml.safe_dump({**content, **changes}))
        poses.add(open_dataset(str(file), "pose").fingerprint)
        boxes.add(open_dataset(str(file)).fingerprint)
    assert len(poses) == 4
    # Where nothing is set it is what it was.
    assert len(boxes) == 1
    assert boxes < poses


def test_lines_of_key_points(tmp_path: Path) -> None:
    file = draw(tmp_path / "drawn", "pose")
    label = tmp_path / "drawn" / "labels" / "train" / "0.txt"
    label.write_text(" ".join(label.read_text().split()[:8]))
    with pytest.raises(
        DatasetError, match="line 1: 8 values; with this `kpt_shape` a line needs 14: class, 4 of the box"
    ):
        open_dataset(str(file), "pose")


# What each task has besides


@pytest.mark.parametrize("task", ["segment", "classify"])
def test_one_class_of_a_model(task: TaskName, runs: dict[TaskName, Outcome]) -> None:
    module, _ = read_checkpoint(checkpoint_of(runs[task]))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    kept = keep_classes(module, (1,))
    scores = 0 if task == "classify" else 1
    torch.testing.assert_close(raw_outputs(kept, image)[scores], raw_outputs(module, image)[scores][:, 1:])
    kept.train()(torch.rand(2, 3, 64, 64))


def test_no_detections_of_a_classifier(runs: dict[TaskName, Outcome]) -> None:
    with pytest.raises(ModelError, match="is a classifier, which finds nothing within images"):
        detect(checkpoint_of(runs["classify"]), [], imgsz=64, head="nms")


@pytest.mark.parametrize(("task", "form"), [("segment", Mask), ("pose", KeyPoints), ("obb", RotatedBox)])
def test_detections_have_the_form_of_their_task(
    task: TaskName, form: type[Form], here: Path, runs: dict[TaskName, Outcome]
) -> None:
    images = validation_images(data_of(here, task), task=task)
    name = next(iter(images.pairs))
    (found,) = detect(checkpoint_of(runs[task]), [images.file(name)], imgsz=64, head="e2e", conf=1e-6, device="cpu")
    for one in (*found, *images.labels(name).objects):
        assert isinstance(one.form, form)
    assert found


def test_what_a_classifier_takes_an_image_for(here: Path, runs: dict[TaskName, Outcome]) -> None:
    files = validation_files(Path(data_of(here, "classify")))
    assert len(files) == SPLITS["val"]
    image = read_image(files["wide/0.png"])
    first, second = classify(checkpoint_of(runs["classify"]), image, imgsz=64, device="cpu")
    assert {first.name, second.name} == set(CLASSES)
    assert first.score >= second.score
    assert first.score + second.score == pytest.approx(1, abs=1e-5)
    with pytest.raises(ModelError, match="is a segmentation model; look at what it sees by `detect`"):
        classify(checkpoint_of(runs["segment"]), image, imgsz=64, device="cpu")


def test_a_classifier_is_cut_at_whole_cells_only(here: Path) -> None:
    with pytest.raises(ModelError, match="Image size 100 is no multiple of this model's stride 32; use 96"):
        prune(str(here / "tiny-classify.yaml"), level=1, imgsz=100)


@pytest.mark.parametrize("task", get_args(TaskName))
def test_every_task_has_names(task: TaskName) -> None:
    assert TASKS[task].name == task
    assert next(iter(accuracy_names(task).values())) == TASKS[task].main
