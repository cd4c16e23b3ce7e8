"""Checkpoints that were fused for deployment: opened as what they were before, with the same predictions."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG_DICT

from compression.catalog import task_of_name
from compression.data.dataset import open_dataset
from compression.errors import ModelError
from compression.levels import target_of
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector, with_classes
from compression.models.kinds import KINDS
from compression.models.unfuse import settle_batchnorm, unfuse, was_fused
from compression.pipeline import compress
from compression.pruning.cut import plan, prune
from compression.pruning.planner import Planner
from compression.pruning.surgery import apply_plan
from compression.spec import CutMethod
from tests.compression.small_models import build, randomised

# Every kind of block that fusing changes, and every head that it takes something from.
NAMES = (
    *("yolov8n", "yolov9t", "yolov6n", "yolo12n", "yolov3-tiny", "yolov10n", "yolo26n"),
    *("yolo11n-seg", "yolo11n-cls", "yolo26n-seg", "yolo26n-pose", "yolo26n-obb"),
)
END_TO_END = ("yolov10n", "yolo26n", "yolo26n-seg", "yolo26n-pose", "yolo26n-obb")
CASES = [*((name, False) for name in NAMES), *((name, True) for name in END_TO_END)]
IMGSZ = 64


def a_model(name: str) -> DetectionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = randomised(KINDS[task_of_name(name)].model(f"{name}.yaml", verbose=False))
    for norm in norms(model):
        # As trained: it has seen batches.
        norm.num_batches_tracked.fill_(100)  # type: ignore[union-attr]
    model.args = dict(DEFAULT_CFG_DICT)
    return model


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]


def fused(model: DetectionModel, end_to_end: bool = False) -> DetectionModel:
    """As `YOLO.fuse()` leaves it: of two heads the one that predicts."""
    copied = copy.deepcopy(model)
    head: Any = copied.model[-1]
    head.end2end = end_to_end
    result: DetectionModel = copied.fuse(verbose=False)
    return result


def saved(model: DetectionModel, folder: Path) -> str:
    file = folder / "fused.pt"
    torch.save({"model": model, "train_args": dict(DEFAULT_CFG_DICT)}, file)
    return str(file)


@torch.no_grad()
def predictions(model: DetectionModel, end_to_end: bool) -> list[Tensor]:
    """What the head that predicts gives before it is decoded."""
    image = torch.rand(2, 3, IMGSZ, IMGSZ, generator=torch.Generator().manual_seed(1))
    raw: Any = copy.deepcopy(model).eval()(image)[1]
    if isinstance(raw, Tensor):
        return [raw]
    raw = raw.get("one2one" if end_to_end else "one2many", raw)
    return [value for part, value in sorted(raw.items()) if part != "feats"]


def assert_close(ours: list[Tensor], theirs: list[Tensor], rtol: float = 1e-3) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() < rtol * other.abs().max()


@pytest.mark.parametrize(("name", "end_to_end"), CASES)
def test_it_opens_as_what_it_was_and_predicts_the_same(name: str, end_to_end: bool, tmp_path: Path) -> None:
    model = a_model(name)
    without = fused(model, end_to_end)
    opened = open_detector(saved(without, tmp_path))
    assert opened.has_e2e_head == end_to_end
    assert not opened.module.is_fused()
    assert was_fused(opened.module)
    assert not was_fused(model)
    # The end-to-end branches of a model that was fused with the other ones are gone for good.
    kept = {
        key: value.shape
        for key, value in model.state_dict().items()
        if end_to_end or not key.split(".")[2].startswith("one2one")
    }
    assert {key: value.shape for key, value in opened.module.state_dict().items()} == kept
    assert_close(predictions(opened.module, end_to_end), predictions(without, end_to_end))
    planner = Planner(opened.module, IMGSZ)
    cut = apply_plan(opened.module, planner.trace, planner.plan(target_of(5)))
    assert sum(each.numel() for each in cut.parameters()) < 0.8 * sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize("name", ["yolo26n", "yolov9t"])
def test_settled_norms_know_their_inputs_and_change_nothing(name: str, tmp_path: Path) -> None:
    opened = open_detector(saved(fused(a_model(name)), tmp_path)).module
    images = torch.randint(0, 256, (20, 3, IMGSZ, IMGSZ), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    settled = settle_batchnorm(opened, images, device=torch.device("cpu"))
    assert was_fused(opened)
    assert not was_fused(settled)
    assert_close(predictions(settled, False), predictions(opened, False), rtol=1e-4)
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def look(label: str, values: Tensor) -> None:
        seen[label] = (values.mean(dim=(0, 2, 3)), values.var(dim=(0, 2, 3), unbiased=False))

    for label, module in settled.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs, label=label: look(label, inputs[0]))
    with torch.no_grad():
        settled(images.float() / 255)
    assert len(seen) == len(norms(settled))
    for label, module in settled.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            mean, variance = seen[label]
            torch.testing.assert_close(module.running_mean, mean, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(module.running_var, variance, rtol=1e-3, atol=1e-4)


def test_other_models_stay_as_they_are() -> None:
    model = a_model("yolo26n")
    before = copy.deepcopy(model.state_dict())
    unfuse(model)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    # Random weights have not seen a batch either, but nothing was rebuilt.
    assert not was_fused(build())


def test_a_cut_without_images_is_still_known_as_fused_after_saving_in_half_precision(tmp_path: Path) -> None:
    opened = open_detector(saved(fused(a_model("yolov8n")), tmp_path))
    write_checkpoint(opened.module, tmp_path / "again.pt", {})
    assert was_fused(open_detector(str(tmp_path / "again.pt")).module)


def test_plan_and_prune_tell_it(tmp_path: Path) -> None:
    file = saved(fused(a_model("yolo26n"), end_to_end=True), tmp_path)
    told = (
        "'fused' was fused for deployment and is unfused again; its BatchNorm takes its statistics from training images "
        "where a data set is given; its one-to-many head begins as a copy of the end-to-end one."
    )
    assert plan(file, level=5, imgsz=IMGSZ).warnings[0] == told
    assert prune(file, level=5, imgsz=IMGSZ).plan.warnings[0] == told


def test_the_head_that_fusing_took_is_not_measured(tmp_path: Path) -> None:
    opened = open_detector(saved(fused(a_model("yolo26n"), end_to_end=True), tmp_path))
    assert opened.choose_head(None) == "e2e"
    with pytest.raises(ModelError, match=r"'fused' was fused, which took the head .* measure it with --head e2e\.$"):
        opened.choose_head("nms")


def test_what_ultralytics_8_3_left_in_place_of_a_head_is_replaced(tmp_path: Path) -> None:
    without = fused(a_model("yolov10n"), end_to_end=True)
    head: Any = without.model[-1]
    head.cv2, head.cv3 = (nn.ModuleList([nn.Identity()] * head.nl) for _ in range(2))
    opened = open_detector(saved(without, tmp_path))
    assert plan(saved(without, tmp_path), level=5, imgsz=IMGSZ).after.gflops
    assert {key for key in opened.module.state_dict() if ".cv2.0." in key and key.startswith("model.23.cv2")}


def test_a_head_that_was_the_only_one_still_predicts(tmp_path: Path) -> None:
    without = fused(a_model("yolo26n"), end_to_end=True)
    del without.model[-1].__dict__["_end2end"]
    assert without.end2end
    opened = open_detector(saved(without, tmp_path)).module
    assert opened.end2end
    image = torch.rand(1, 3, IMGSZ, IMGSZ)
    assert opened(image)[0].shape == without(image)[0].shape


def test_norms_without_statistics_are_no_sign_of_fusing() -> None:
    assert not was_fused(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))


def test_a_fused_model_takes_the_classes_of_another_data_set(tmp_path: Path) -> None:
    opened = open_detector(saved(fused(a_model("yolo26n")), tmp_path))
    other = with_classes(opened, {0: "cell", 1: "platelet"})
    assert other.model[-1].nc == 2


def test_a_cut_by_images_is_planned_as_it_is_made(tiny_shapes: Path, tmp_path: Path) -> None:
    data, method = str(tiny_shapes), CutMethod(criterion="bn_scale", allocation="global")
    names = open_dataset(data).names
    module = with_classes(open_detector(saved(fused(a_model("yolo26n"), True), tmp_path)), names)
    file = saved(fused(module, True), tmp_path)
    out = tmp_path / "cut.pt"
    made = prune(file, level=5, imgsz=IMGSZ, data=data, method=replace(method, recovery="batchnorm"), out=out)
    planned = plan(file, level=5, imgsz=IMGSZ, data=data, method=method)
    assert [layer.channels_after for layer in planned.layers] == [layer.channels_after for layer in made.plan.layers]
    # Its other head is still the copy.
    cut = open_detector(str(out))
    assert not was_fused(cut.module)
    assert cut.warnings
    with pytest.raises(ModelError, match="took the head"):
        cut.choose_head("nms")


@pytest.mark.parametrize("end_to_end", [False, True])
def test_a_run_cuts_and_trains_it(end_to_end: bool, tiny_shapes: Path, tmp_path: Path) -> None:
    data = str(tiny_shapes)
    first = compress("yolo26n.yaml", data, level=0, epochs=1, imgsz=IMGSZ, batch=4, device="cpu")
    assert first.checkpoint is not None
    file = saved(fused(open_detector(str(first.checkpoint)).module, end_to_end), tmp_path)
    outcome = compress(file, data, level=5, epochs=1, imgsz=IMGSZ, batch=4, device="cpu")
    record = outcome.record
    assert record.head == ("e2e" if end_to_end else "nms")
    assert "is unfused again" in record.warnings[0]
    assert len(record.curve) == 1
    assert outcome.checkpoint is not None
    trained = open_detector(str(outcome.checkpoint))
    assert not was_fused(trained.module)
    assert trained.has_e2e_head == end_to_end
    # The statistics of the first layer are those of its images, not those that a BatchNorm begins with.
    first_norm = norms(trained.module)[0]
    assert first_norm.running_var is not None
    assert (first_norm.running_var - 0.999).abs().max() > 0.01
