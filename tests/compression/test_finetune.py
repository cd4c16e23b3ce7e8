"""Recipes, progress and the log of epochs; the training itself is tested with the pipeline."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ultralytics.utils import DEFAULT_CFG_DICT

from cache.record import Progress
from compression.finetune import RECIPES, FineTuneTrainer, ProgressTeller, fine_tune, read_curve
from compression.pipeline import StoreTeller, silent
from compression.spec import RunSpec, Target

# Every augmentation that Ultralytics applies to a detector by default, cfg/default.yaml.
AUGMENTATIONS = ("hsv_h", "hsv_s", "hsv_v", "translate", "scale", "fliplr", "mosaic", "erasing", "auto_augment")

COLUMNS = "epoch,time,train/box_loss,metrics/precision(B),metrics/recall(B),metrics/mAP50(B),metrics/mAP50-95(B),lr/pg0"
RESULTS = f"""{COLUMNS}
1,10.5,2.5,0.1,0.2,0.3,0.2,0.001
2,20,2.25,0.2,0.3,0.4,0.25,0.0005
3,8,2,0.3,0.4,0.5,0.3,0.0001
"""


def test_standard_is_ultralytics_own() -> None:
    assert RECIPES["standard"] == {}


def test_plain_switches_every_augmentation_off() -> None:
    changed = RECIPES["plain"]
    assert set(AUGMENTATIONS) <= set(changed)
    assert not any(changed.values())
    assert all(DEFAULT_CFG_DICT[name] for name in changed)
    others = ("degrees", "shear", "perspective", "flipud", "bgr", "mixup", "cutmix", "copy_paste")
    assert not any(DEFAULT_CFG_DICT[name] for name in others)


def test_curve_gives_each_epoch_its_own_time(tmp_path: Path) -> None:
    """The third epoch was run after an interruption, and its clock began anew."""
    file = tmp_path / "results.csv"
    file.write_text(RESULTS)
    curve = read_curve(file)
    assert [row.seconds for row in curve] == [10.5, 9.5, 8]
    assert (curve[1].epoch, curve[1].map50, curve[1].map50_95, curve[1].precision) == (2, 0.4, 0.25, 0.2)
    assert curve[0].losses == {"train/box_loss": 2.5}


def fake_trainer(epoch: int, metrics: dict[str, float] | None = None) -> Any:
    return SimpleNamespace(epoch=epoch, epochs=4, start_epoch=0, train_loader=[None] * 10, metrics=metrics)


def test_progress_counts_whole_epochs_and_expects_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("compression.finetune.time.monotonic", lambda: now[0])
    told: list[Progress] = []
    teller = ProgressTeller(tell=told.append, stage="fine-tuning")
    teller.on_train_start(fake_trainer(0))
    teller.on_train_epoch_start(fake_trainer(0))
    now[0] += 5
    for _ in range(5):
        teller.on_train_batch_end(fake_trainer(0))
    assert len(told) == 1, "at most once a second"
    now[0] += 15
    teller.on_fit_epoch_end(fake_trainer(0, {"metrics/mAP50(B)": 0.5, "metrics/mAP50-95(B)": 0.25}))
    assert told[-1] == Progress(stage="fine-tuning", epoch=1, epochs=4, eta_seconds=60.0, map50=0.5, map50_95=0.25)


def test_tellers_reach_other_processes(own_home: Path) -> None:
    teller = ProgressTeller(tell=StoreTeller(key="k", further=silent), stage="fine-tuning")
    assert pickle.loads(pickle.dumps(teller)).tell == teller.tell
    assert pickle.loads(pickle.dumps(FineTuneTrainer)) is FineTuneTrainer


@pytest.mark.parametrize("recipe", ["standard", "plain"])
def test_arguments_of_a_training(
    recipe: Any, tmp_path: Path, tiny_shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Ultralytics is told: the run's own values, several GPUs included, and nothing else but the recipe."""
    seen: dict[str, Any] = {}

    class StopError(Exception):
        pass

    def note(*, overrides: dict[str, Any]) -> None:
        seen.update(overrides)
        raise StopError

    monkeypatch.setattr("compression.finetune.FineTuneTrainer", note)
    spec = RunSpec(
        model="m.pt",
        weights_sha256="w",
        data="d",
        data_fingerprint="f",
        level=None,
        target=Target(gflops_kept=0.5, params_kept=None),
        head="e2e",
        recipe=recipe,
        epochs=7,
        patience=3,
        imgsz=96,
        batch=5,
        seed=11,
        device="0,1",
    )
    dataset: Any = SimpleNamespace(yaml_file=tiny_shapes)
    with pytest.raises(StopError):
        fine_tune(
            tmp_path / "start.pt",
            dataset,
            spec,
            tmp_path / "t",
            tell=silent,
            stage="s",
        )
    own = {"epochs": 7, "patience": 3, "imgsz": 96, "batch": 5, "seed": 11, "device": "0,1", "nms": False}
    assert own.items() <= seen.items()
    places = {"model", "data", "project", "name", "exist_ok", "plots"}
    assert set(seen) == set(own) | places | set(RECIPES[recipe])
