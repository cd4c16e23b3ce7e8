"""Recipes, distillation, progress and the log of epochs; `standard` training is tested with the pipeline."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from ultralytics.utils import DEFAULT_CFG_DICT

from cache.record import Metrics, Progress
from compression.data.dataset import Dataset, open_dataset
from compression.errors import ModelError
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector, read_checkpoint
from compression.pipeline import StoreTeller
from compression.pruning.planner import Planner
from compression.pruning.surgery import apply_plan
from compression.rounds import NOT_BETTER, Compressed, Rounds
from compression.stages import Stages
from compression.telling import silent
from compression.training.finetune import (
    DISTILLATION_WEIGHT,
    RECIPES,
    STEP_EACH_BATCH,
    ProgressTeller,
    Training,
    fine_tune,
    read_curve,
)
from compression.training.trainer import TRAINERS, FineTuneTrainer
from compression.training.training_state import TrainingState, last_state, read_attempt
from tests.compression.small_models import IMGSZ, LEVEL_5
from tests.factories import spec

# Every augmentation that Ultralytics applies to a detector by default, cfg/default.yaml.
AUGMENTATIONS = ("hsv_h", "hsv_s", "hsv_v", "translate", "scale", "fliplr", "mosaic", "erasing", "auto_augment")

COLUMNS = "epoch,time,train/box_loss,metrics/precision(B),metrics/recall(B),metrics/mAP50(B),metrics/mAP50-95(B),lr/pg0"
RESULTS = f"""{COLUMNS}
1,10.5,2.5,0.1,0.2,0.3,0.2,0.001
2,20,2.25,0.2,0.3,0.4,0.25,0.0005
3,28,2,0.3,0.4,0.5,0.3,0.0001
"""


def test_the_best_epoch_is_that_of_the_kept_file() -> None:
    training = Training(best=Path("weights/best-2.pt"), curve=read_curve(io.StringIO(RESULTS)))
    assert training.best_row.map50_95 == 0.25


@pytest.mark.parametrize(("before", "kept"), [(0.24, "best-2.pt"), (0.26, "cut-1.pt")])
def test_the_kept_epoch_is_compared_and_not_the_highest(
    before: float, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fitness of masks counts their boxes too, so that the third epoch, with the best masks, need not be the kept one.
    training = Training(best=tmp_path / "best-2.pt", curve=read_curve(io.StringIO(RESULTS)))
    monkeypatch.setattr("compression.rounds.fine_tune", lambda *_, **__: training)
    unused: Any = None
    rounds = Rounds(
        original=unused,
        teacher=unused,
        dataset=unused,
        spec=spec(epochs=3),
        folder=tmp_path,
        tell=silent,
        stages=Stages(silent),
    )
    start = Metrics(map50=0.5, map50_95=before, precision=None, recall=None)
    cut = Compressed(checkpoint=tmp_path / "cut-1.pt", pruned=start, recovered=None, curve=(), warnings=())
    trained = rounds._fine_tune(1, cut, 0)
    assert trained.checkpoint.name == kept
    assert trained.warnings == ((NOT_BETTER,) if kept == "cut-1.pt" else ())


def test_standard_is_ultralytics_own() -> None:
    assert RECIPES["standard"] == {}


def test_plain_switches_every_augmentation_off() -> None:
    changed = RECIPES["plain"]
    assert set(AUGMENTATIONS) <= set(changed)
    assert not any(changed.values())
    assert all(DEFAULT_CFG_DICT[name] for name in changed)
    others = ("degrees", "shear", "perspective", "flipud", "bgr", "mixup", "cutmix", "copy_paste")
    assert not any(DEFAULT_CFG_DICT[name] for name in others)


def test_cosine_and_distill_augment_as_ultralytics_does() -> None:
    for recipe in STEP_EACH_BATCH:
        assert not {*AUGMENTATIONS, "close_mosaic"} & set(RECIPES[recipe])


def test_distill_is_cosine_with_a_weight_of_the_teacher() -> None:
    assert RECIPES["distill"] == RECIPES["cosine"] | {"dis": DISTILLATION_WEIGHT}
    assert 0 < DISTILLATION_WEIGHT < DEFAULT_CFG_DICT["dis"], "Ultralytics' own drowns the detection losses"


def test_curve_gives_each_epoch_its_own_time() -> None:
    """Ultralytics' clock runs on from epoch to epoch."""
    curve = read_curve(io.StringIO(RESULTS))
    assert [row.seconds for row in curve] == [10.5, 9.5, 8]
    assert (curve[1].epoch, curve[1].map50, curve[1].map50_95, curve[1].precision) == (2, 0.4, 0.25, 0.2)
    assert curve[0].losses == {"train/box_loss": 2.5}


def fake_trainer(epoch: int, metrics: dict[str, float] | None = None) -> Any:
    csv = Path("nowhere") / "results.csv"
    return SimpleNamespace(
        epoch=epoch,
        epochs=4,
        start_epoch=0,
        train_loader=[None] * 10,
        metrics=metrics,
        csv=csv,
        args=SimpleNamespace(task="detect"),
    )


def test_progress_counts_whole_epochs_and_expects_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("compression.training.finetune.time.monotonic", lambda: now[0])
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


def test_only_the_process_that_validates_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ultralytics calls back on every rank, and gives those that did not validate no metrics."""
    monkeypatch.setattr("compression.training.finetune.RANK", 1)
    told: list[Progress] = []
    teller = ProgressTeller(tell=told.append, stage="fine-tuning")
    teller.on_train_batch_end(fake_trainer(0))
    teller.on_fit_epoch_end(fake_trainer(0))
    assert told == []


def test_tellers_reach_other_processes(own_home: Path) -> None:
    teller = ProgressTeller(tell=StoreTeller(key="k", further=silent), stage="fine-tuning")
    assert pickle.loads(pickle.dumps(teller)).tell == teller.tell
    assert pickle.loads(pickle.dumps(FineTuneTrainer)) is FineTuneTrainer


# What a training is told


@dataclass(frozen=True)
class Pair:
    """Checkpoints of an original and of what level 5 leaves of it, and the data set of their ten classes."""

    original: Path
    pruned: Path
    dataset: Dataset


@pytest.fixture(scope="module")
def make_pair(tmp_path_factory: pytest.TempPathFactory, tiny_shapes: Path) -> Callable[[str], Pair]:
    """Makes a pair of any family."""

    def make(name: str) -> Pair:
        folder = tmp_path_factory.mktemp(name)
        pair = Pair(folder / "original.pt", folder / "pruned.pt", open_dataset(str(tiny_shapes)))
        module = open_detector(f"{name}.yaml", nc=10).module
        module.names = dict(pair.dataset.names)
        planner = Planner(module, IMGSZ)
        write_checkpoint(module, pair.original, {})
        write_checkpoint(apply_plan(module, planner.trace, planner.plan(LEVEL_5)), pair.pruned, {})
        return pair

    return make


@pytest.fixture(scope="module")
def pair(make_pair: Callable[[str], Pair]) -> Pair:
    return make_pair("yolo26n")


@pytest.mark.parametrize("recipe", ["standard", "plain", "cosine", "distill"])
def test_arguments_of_a_training(recipe: Any, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ultralytics is told: the run's own values, several GPUs included, and nothing else but the recipe."""
    seen: dict[str, Any] = {}
    folder = tmp_path / "training"

    class StopError(Exception):
        pass

    def note(*, overrides: dict[str, Any]) -> None:
        seen.update(overrides)
        if "distill_model" in overrides:
            # Ultralytics empties the folder before the processes of a multi-GPU training open the teacher.
            assert folder not in Path(overrides["distill_model"]).parents
            copy, _ = read_checkpoint(Path(overrides["distill_model"]))
            seen["teacher"] = copy.state_dict()
        raise StopError

    monkeypatch.setitem(TRAINERS, "detect", note)
    values: dict[str, Any] = {"epochs": 7, "patience": 3, "imgsz": 96, "batch": 5, "seed": 11, "device": "0,1"}
    asked = spec(5, recipe=recipe, **values)
    with pytest.raises(StopError):
        fine_tune(pair.pruned, pair.dataset, asked, folder, teacher=pair.original, tell=silent, stage="s")
    if recipe == "distill":
        teacher = seen.pop("teacher")
        expected = read_checkpoint(pair.original)[0].state_dict()
        assert all(torch.equal(teacher[name], expected[name]) for name in expected)
        assert not Path(seen.pop("distill_model")).exists(), "it lies there for the training alone"
    own = values | {"nms": False} | ({"nbs": 5} if recipe in STEP_EACH_BATCH else {})
    assert own.items() <= seen.items()
    places = {"model", "data", "project", "name", "exist_ok", "plots"}
    assert set(seen) == set(own) | places | set(RECIPES[recipe])


# Training on a few drawn images


class WatchedTrainer(FineTuneTrainer):
    """Notes what a training does."""

    seen: ClassVar[list[WatchedTrainer]] = []

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.rates: list[list[float]] = []
        self.validated: list[tuple[bool, dict[str, float], dict[str, float]]] = []
        WatchedTrainer.seen.append(self)

    def optimizer_step(self) -> None:
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])
        super().optimizer_step()

    def validate(self) -> Any:
        """Validate a second time without the teacher's wrapping, if there is any."""
        metrics, fitness = super().validate()
        whole = self.ema.ema
        self.ema.ema = getattr(whole, "student_model", whole)
        alone = self.validator(self)
        del alone["fitness"]
        self.validated.append((whole.end2end, metrics, alone))
        self.ema.ema = whole
        return metrics, fitness


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[WatchedTrainer]:
    """The trainers of a test, in order."""
    monkeypatch.setitem(TRAINERS, "detect", WatchedTrainer)
    WatchedTrainer.seen.clear()
    return WatchedTrainer.seen


def tiny(recipe: str, epochs: int, **changes: Any) -> Any:
    """Three batches an epoch of the twelve images, the last of two images."""
    return spec(5, recipe=recipe, epochs=epochs, imgsz=IMGSZ, batch=5, device="cpu", **changes)


def test_cosine_steps_with_every_batch_from_its_full_rate(
    pair: Pair, tmp_path: Path, watched: list[WatchedTrainer]
) -> None:
    training = fine_tune(pair.pruned, pair.dataset, tiny("cosine", 4), tmp_path / "t", tell=silent, stage="s")
    (trainer,) = watched
    # lr0 (1 - 0.98 (1 - cos(45 degrees x epoch)) / 2), three steps an epoch, alike for weights, norms and biases.
    by_hand = [0.001, 0.000856482, 0.00051, 0.000163518]
    assert trainer.rates == [pytest.approx([rate] * 3, rel=1e-5) for rate in by_hand for _ in range(3)]
    assert [row.lr for row in training.curve] == pytest.approx(by_hand, rel=1e-4)
    assert trainer.lf(4) == pytest.approx(0.02), "where the schedule ends"
    assert type(trainer.optimizer) is torch.optim.AdamW
    # The nominal batch is the run's, so Ultralytics does not scale the decay.
    decays = {group["param_group"]: group["weight_decay"] for group in trainer.optimizer.param_groups}
    assert decays == {"weight": DEFAULT_CFG_DICT["weight_decay"], "bn": 0, "bias": 0}
    assert all(getattr(trainer.args, name) == DEFAULT_CFG_DICT[name] for name in (*AUGMENTATIONS, "close_mosaic"))


class StoppedError(Exception):
    """An interruption."""


@dataclass
class Interrupting:
    """Ends a training when its first epoch is told."""

    def __call__(self, progress: Progress) -> None:
        if progress.epoch == 1:
            raise StoppedError


@dataclass(frozen=True)
class Taught:
    """A distillation of two epochs that was interrupted after the first.

    Attributes:
        folder: of the training.
        state: what was kept at the interruption.
        left: names of the files beside the folder at the interruption.
        training: what the two parts left.
        undisturbed: what a training without an interruption leaves.
        told: the progress of the second part.
    """

    folder: Path
    state: TrainingState
    left: list[str]
    training: Training
    undisturbed: Training
    told: list[Progress]
    trainers: list[WatchedTrainer]


@pytest.fixture(scope="module")
def taught(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    """Not to be changed."""
    folder = tmp_path_factory.mktemp("run") / "training"
    asked = tiny("distill", 2)
    told: list[Progress] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRAINERS, "detect", WatchedTrainer)
        WatchedTrainer.seen.clear()
        with pytest.raises(StoppedError):
            fine_tune(pair.pruned, pair.dataset, asked, folder, teacher=pair.original, tell=Interrupting(), stage="s")
        state = state_in(folder)
        left = sorted(file.name for file in folder.parent.iterdir())
        # The same weights may lie elsewhere when the run goes on.
        elsewhere = tmp_path_factory.mktemp("elsewhere") / "same.pt"
        elsewhere.write_bytes(pair.original.read_bytes())
        training = fine_tune(pair.pruned, pair.dataset, asked, folder, teacher=elsewhere, tell=told.append, stage="s")
        trainers = list(WatchedTrainer.seen)
        other = tmp_path_factory.mktemp("undisturbed") / "training"
        undisturbed = fine_tune(pair.pruned, pair.dataset, asked, other, teacher=pair.original, tell=silent, stage="s")
    return Taught(folder, state, left, training, undisturbed, told, trainers)


def state_in(folder: Path) -> TrainingState:
    attempt = read_attempt(folder)
    assert attempt is not None
    state = last_state(folder / "weights", attempt.fingerprint).state
    assert state is not None
    return state


def outcome(training: Training) -> tuple[Any, ...]:
    """All that two trainings have in common but the times."""
    rows = [replace(row, seconds=0) for row in training.curve]
    weights = read_checkpoint(training.best)[0].state_dict()
    return training.best.name, training.warnings, rows, in_bytes(weights)


def decisive(state: TrainingState) -> dict[str, Any]:
    """All of a state but times."""
    timed = ("clock", "results", "best_sha256")
    return {name: in_bytes(value) for name, value in vars(state).items() if name not in timed}


def in_bytes(value: Any) -> Any:
    """Tensors, also in dicts of dicts, as bytes, which are quickly compared."""
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    return {key: in_bytes(each) for key, each in value.items()} if isinstance(value, dict) else value


class TestDistillation:
    def test_curve_holds_the_loss_against_the_teacher(self, taught: Taught) -> None:
        assert [row.epoch for row in taught.training.curve] == [1, 2]
        assert all(row.losses["train/dis_loss"] > 0 for row in taught.training.curve)
        assert all(row.seconds > 0 for row in taught.training.curve)

    def test_it_goes_on_after_an_interruption(self, taught: Taught) -> None:
        first, second = taught.trainers
        assert (first.start_epoch, len(first.rates)) == (0, 3)
        assert (second.start_epoch, len(second.rates)) == (1, 3)
        assert second.rates[0] == pytest.approx([0.00051] * 3), "half way of the cosine"
        assert second.ema.updates == 6
        assert {progress.epoch for progress in taught.told} == {1, 2}
        assert (taught.told[-1].epoch, taught.told[-1].eta_seconds) == (2, 0)

    def test_it_ends_as_one_without_an_interruption(self, taught: Taught) -> None:
        assert outcome(taught.training) == outcome(taught.undisturbed)
        ours, theirs = (state_in(each.best.parent.parent) for each in (taught.training, taught.undisturbed))
        assert decisive(ours) == decisive(theirs)

    def test_state_holds_student_and_projector_without_the_teacher(self, taught: Taught) -> None:
        for weights in (taught.state.model, taught.state.ema):
            assert {name.split(".")[0] for name in weights} == {"student_model", "projector"}
            assert all(value.dtype in (torch.float32, torch.int64) for value in weights.values())
        assert len({name.split(".")[1] for name in taught.state.model if name.startswith("projector")}) == 3

    def test_the_projector_goes_on_too(self, taught: Taught, tmp_path: Path) -> None:
        """Weights of the first part's end and of the second part's differ by three steps of at most lr0 each."""
        first, second = (trainer.model.projector.state_dict() for trainer in taught.trainers)
        moved = max(float((first[name] - second[name]).abs().max()) for name in first)
        assert 0 < moved < 0.005

    def test_teacher_is_the_original_and_is_not_trained(self, taught: Taught, pair: Pair) -> None:
        expected = read_checkpoint(pair.original)[0].state_dict()
        for trainer in taught.trainers:
            teacher = trainer.model.teacher_model
            assert not teacher.training
            assert all(torch.equal(value, expected[name]) for name, value in teacher.state_dict().items())

    def test_weight_of_the_loss_is_the_recipes(self, taught: Taught) -> None:
        assert [trainer.model.dis for trainer in taught.trainers] == [DISTILLATION_WEIGHT] * 2

    def test_validation_is_the_students_on_the_head_that_is_reported(self, taught: Taught) -> None:
        for trainer in taught.trainers:
            ((end_to_end, metrics, alone),) = trainer.validated
            assert end_to_end
            assert metrics == alone
            assert metrics["val/box_loss"] > 0

    def test_no_teacher_is_left_lying(self, taught: Taught) -> None:
        assert taught.left == ["training"]
        assert [file.name for file in taught.folder.parent.iterdir()] == ["training"]

    def test_checkpoint_is_the_student_alone(self, taught: Taught, pair: Pair) -> None:
        student, _ = read_checkpoint(taught.training.best)
        start, _ = read_checkpoint(pair.pruned)
        assert {key: value.shape for key, value in student.state_dict().items()} == {
            key: value.shape for key, value in start.state_dict().items()
        }
        assert student.names == pair.dataset.names
        assert not any(module._forward_hooks for module in student.modules())

    def test_a_training_that_is_over_is_not_begun_again(self, taught: Taught, pair: Pair) -> None:
        told: list[Progress] = []
        again = fine_tune(
            pair.pruned,
            pair.dataset,
            tiny("distill", 2),
            taught.folder,
            teacher=pair.original,
            tell=told.append,
            stage="s",
        )
        assert told == []
        assert again == taught.training

    @pytest.mark.parametrize("name", ["yolo11n", "yolov8n"])
    def test_families_without_an_end_to_end_head(
        self, name: str, make_pair: Callable[[str], Pair], tmp_path: Path, watched: list[WatchedTrainer]
    ) -> None:
        other = make_pair(name)
        training = fine_tune(
            other.pruned,
            other.dataset,
            tiny("distill", 1, head="nms"),
            tmp_path / "t",
            teacher=other.original,
            tell=silent,
            stage="s",
        )
        (row,) = training.curve
        assert row.losses["train/dis_loss"] > 0
        ((end_to_end, metrics, alone),) = watched[0].validated
        assert not end_to_end
        assert metrics == alone
        student, _ = read_checkpoint(training.best)
        assert student.state_dict().keys() == read_checkpoint(other.pruned)[0].state_dict().keys()

    def test_without_a_teacher(self, pair: Pair, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match="needs a teacher"):
            fine_tune(pair.pruned, pair.dataset, tiny("distill", 1), tmp_path / "t", tell=silent, stage="s")

    def test_code_in_a_teacher_is_not_run(self, pair: Pair, tmp_path: Path) -> None:
        marker = tmp_path / "marker"

        class Planted:
            def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
                return os.mkdir, (str(marker),)

        evil = tmp_path / "evil.pt"
        torch.save({"model": Planted()}, evil)
        with pytest.raises(ModelError, match="cannot be loaded"):
            fine_tune(
                pair.pruned, pair.dataset, tiny("distill", 1), tmp_path / "t", teacher=evil, tell=silent, stage="s"
            )
        assert not marker.exists()
        torch.load(evil, weights_only=False)
        assert marker.exists(), "an unrestricted loader would have run it"


IN_PLAIN_ULTRALYTICS = """
import json, sys
for ours in ("compression", "cache", "pages"):
    sys.modules[ours] = None  # importing one of them fails
import numpy
from ultralytics import YOLO

model = YOLO(sys.argv[1])
kind = type(model.model).__name__
n_params = sum(parameter.numel() for parameter in model.model.parameters())
result = model.predict(numpy.full((64, 64, 3), 114, numpy.uint8), imgsz=64, conf=0.0001, verbose=False, save=False)[0]
print("RESULT", json.dumps({"kind": kind, "n_params": n_params, "boxes": list(result.boxes.data.shape)}))
"""


def test_plain_ultralytics_loads_a_taught_model(taught: Taught, pair: Pair) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TRIMBOARD_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", IN_PLAIN_ULTRALYTICS, taught.training.best.name],
        cwd=taught.folder / "weights",
        env=environment | {"ULTRALYTICS_SAFE_LOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])
    assert result["kind"] == "DetectionModel"
    assert result["n_params"] == sum(value.numel() for value in read_checkpoint(pair.pruned)[0].parameters())
    assert result["boxes"][1] == 6


# Interruptions


class ScriptedTrainer(FineTuneTrainer):
    """Finds the fitness that the test wants, whatever the model does."""

    fitness_by_epoch: ClassVar[list[float]] = [0.2, 0.5, 0.4, 0.3, 0.6]

    def validate(self) -> Any:
        metrics, _ = super().validate()
        fitness = self.fitness_by_epoch[self.epoch]
        self.best_fitness = max(self.best_fitness or 0.0, fitness)
        return metrics, fitness


@dataclass
class InterruptingAt:
    """Ends a training when so many epochs are told, in the middle of an epoch or at its end."""

    epoch: int
    whole: bool
    batches: int = 0

    def __call__(self, progress: Progress) -> None:
        if progress.epoch == self.epoch:
            self.batches += 1
            if self.batches == (1 if self.whole else 3):
                raise StoppedError


@pytest.mark.parametrize("whole", [True, False])
def test_interrupted_training_ends_as_one_that_was_not(
    whole: bool, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warm-up over three epochs, mosaics in two, gradients that wait at the end of each, patience that ends it."""
    monkeypatch.setitem(TRAINERS, "detect", ScriptedTrainer)
    monkeypatch.setattr("compression.training.finetune.TELL_EVERY", 0.0)
    monkeypatch.setitem(RECIPES, "standard", {"close_mosaic": 3})
    asked = tiny("standard", 5, patience=2)

    def train(folder: Path, tell: Callable[[Progress], None]) -> Training:
        return fine_tune(pair.pruned, pair.dataset, asked, folder, tell=tell, stage="s")

    undisturbed = train(tmp_path / "undisturbed", silent)
    assert [row.epoch for row in undisturbed.curve] == [1, 2, 3, 4], "two epochs after the best"
    assert undisturbed.best.name == "best-2.pt"
    folder = tmp_path / "interrupted"
    for epoch in (1, 2, 3):
        with pytest.raises(StoppedError):
            train(folder, InterruptingAt(epoch, whole))
        state = state_in(folder)
        assert state.epoch == epoch
        assert not state.finished
        assert len(state.buffer) == 11, "one less than there are images"
    # A step is due after 13 batches at most; warm-up asks for fewer.
    assert state.waiting
    assert len(state.gradients) > 100
    assert outcome(train(folder, silent)) == outcome(undisturbed)
    ours, theirs = (state_in(each) for each in (folder, tmp_path / "undisturbed"))
    assert decisive(ours) == decisive(theirs)
    assert ours.finished
    # The clock runs on.
    assert [row.seconds > 0 for row in train(folder, silent).curve] == [True] * 4


def test_states_and_checkpoints_do_not_pile_up(pair: Pair, tmp_path: Path) -> None:
    training = fine_tune(pair.pruned, pair.dataset, tiny("cosine", 4), tmp_path / "t", tell=silent, stage="s")
    left = {file.name for file in training.best.parent.iterdir()}
    assert {"epoch-3.state", "epoch-4.state", training.best.name} <= left
    assert len(left) <= 4
    assert not {"best.pt", "last.pt"} & left, "Ultralytics' own, which nobody would read"
