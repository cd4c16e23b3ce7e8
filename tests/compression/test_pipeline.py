"""The whole way of a run, on a few drawn images at 64 pixels."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from cache.comparison import to_csv
from cache.record import Metrics, Progress
from cache.store import Store, plan_key
from compression import compress, plan, prune
from compression.errors import ModelError, SpecError, TargetError
from compression.home import run_folder
from compression.jobs.execute import execute
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector, read_checkpoint
from compression.pipeline import Outcome
from compression.rounds import NOT_BETTER
from compression.spec import WITHOUT_IMAGES, CutMethod, Target
from compression.wishes import parse_wishes

SMALL: Any = {"epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu"}
# For what does not depend on how channels are chosen.
PLAIN: Any = {**SMALL, "method": WITHOUT_IMAGES}


@pytest.fixture(scope="module")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that counts as trained on the small data set: it has as many classes."""
    detector = open_detector("yolo26n.yaml", nc=10, seed=3)
    detector.module.names = {0: "disc", **{index: f"class {index}" for index in range(1, 10)}}
    file = tmp_path_factory.mktemp("models") / "mine.pt"
    write_checkpoint(detector.module, file, {})
    return file


@pytest.fixture(scope="module")
def measured_home(trained_model: Path, tiny_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which level 3 was measured; not to be changed."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRIMBOARD_HOME", str(folder))
        assert not compress(str(trained_model), str(tiny_shapes), level=3, **SMALL).cached
    return folder


@pytest.fixture
def level_3(measured_home: Path, own_home: Path, trained_model: Path, tiny_shapes: Path) -> Outcome:
    """Level 3 as it is found in a copy of that folder."""
    shutil.copytree(measured_home, own_home, dirs_exist_ok=True)
    return compress(str(trained_model), str(tiny_shapes), level=3, **SMALL)


def test_layers_as_wished(trained_model: Path, tiny_shapes: Path) -> None:
    wishes = parse_wishes(["model.0"], ["model.4.cv1=50%"])
    asked: Any = {**PLAIN, "layers": wishes, "epochs": 0}
    outcome = compress(str(trained_model), str(tiny_shapes), **asked)
    assert outcome.checkpoint
    record, (module, _) = outcome.record, read_checkpoint(outcome.checkpoint)
    rows = {row.name: row for row in record.layers}
    # What is coupled with a layer is cut with it, and what is locked says so.
    assert {name for name, row in rows.items() if row.sparsity} == {"model.4.cv1", "model.4.m.0.cv2"}
    assert (rows["model.4.cv1"].channels_after, rows["model.0"].locked) == (32, "locked as wished")
    assert module.get_submodule("model.4.cv1.conv").out_channels == 32
    assert (record.level, record.metrics) == (None, record.metrics_pruned)
    assert record.costs.params == sum(parameter.numel() for parameter in module.parameters())
    assert outcome.checkpoint.name == "mine-layers.pt"
    assert compress(str(trained_model), str(tiny_shapes), **asked).cached
    # Ultralytics would train and measure at 64.
    with pytest.raises(ModelError, match=r"^Image size 40 is no multiple of this model's stride 32; use 32\.$"):
        compress(str(trained_model), str(tiny_shapes), **{**asked, "imgsz": 40})
    with pytest.raises(SpecError, match=r"no layer 'model\.4\.cv9'"):
        compress(
            str(trained_model), str(tiny_shapes), **{**asked, "layers": parse_wishes(["model.4.cv9"], ["model.0=0.5"])}
        )


class TestCompress:
    def test_record_holds_the_whole_run(self, level_3: Outcome, trained_model: Path) -> None:
        record = level_3.record
        assert (record.model, record.architecture, record.data, record.level) == ("mine", "yolo26n", "tiny-shapes", 3)
        assert (record.head, record.imgsz, record.provenance) == ("e2e", 64, "measured")
        assert record.costs.params is not None
        assert record.costs_original.params is not None
        assert record.costs.params / record.costs_original.params == pytest.approx(0.85, abs=0.005)
        assert sum(row.params_after for row in record.layers) == record.costs.params
        assert [row.epoch for row in record.curve] == [1]
        assert record.metrics_pruned is not None
        assert record.metrics_recovered is not None
        assert {"pruning", "fine-tuning", "measuring"} <= set(record.seconds)
        assert record.environment["torch"] == torch.__version__.split("+")[0]

    def test_checkpoint_has_the_costs_that_are_claimed(self, level_3: Outcome) -> None:
        assert level_3.checkpoint is not None
        module, info = read_checkpoint(level_3.checkpoint)
        assert sum(parameter.numel() for parameter in module.parameters()) == level_3.record.costs.params
        assert info["level"] == 3
        assert info["metrics"]["map50_95"] == level_3.record.metrics.map50_95
        assert level_3.record.artifacts[0].size_bytes == level_3.checkpoint.stat().st_size

    def test_checkpoint_and_record_name_no_folder(self, level_3: Outcome, trained_model: Path) -> None:
        assert level_3.checkpoint is not None
        _, info = read_checkpoint(level_3.checkpoint)
        assert str(trained_model.parent) not in json.dumps(info)
        assert str(trained_model.parent) not in str(torch.load(level_3.checkpoint, weights_only=False)["train_args"])

    def test_same_question_is_answered_from_the_cache(
        self, level_3: Outcome, trained_model: Path, tiny_shapes: Path, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "copy.pt"
        elsewhere.write_bytes(trained_model.read_bytes())
        again = compress(str(elsewhere), str(tiny_shapes), level=3, **SMALL)
        assert again.cached
        assert again.record == level_3.record

    def test_asked_again_it_runs_again(self, level_3: Outcome, trained_model: Path, tiny_shapes: Path) -> None:
        def stop(progress: Progress) -> None:
            if progress.stage == "measuring":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            compress(str(trained_model), str(tiny_shapes), level=3, again=True, tell=stop, **SMALL)
        assert Store().artifact_path(level_3.record) == level_3.checkpoint, "until then the earlier result stands"
        queue, key = Store().queue, level_3.record.key
        queue.resume(key)
        execute(key)
        assert queue.find(key).state == "done"
        again = Store().find(key)
        assert again is not None
        assert again.seconds != level_3.record.seconds, "the earlier result is no answer after a resume either"
        assert again.costs == level_3.record.costs
        assert [record.level for record in Store().records(model="mine")] == [0, 3]

    def test_level_0_is_stored_beside_it(self, level_3: Outcome, trained_model: Path, tiny_shapes: Path) -> None:
        original = compress(str(trained_model), str(tiny_shapes), level=0, **SMALL)
        assert original.cached
        assert original.record.metrics == level_3.record.metrics_original
        assert original.record.costs == level_3.record.costs_original
        assert original.record.curve == ()
        assert original.checkpoint is not None
        assert original.checkpoint.read_bytes() == trained_model.read_bytes()
        stages: list[str] = []

        def note(progress: Progress) -> None:
            stages.append(progress.stage)

        anew = compress(str(trained_model), str(tiny_shapes), level=0, again=True, tell=note, **SMALL)
        assert not anew.cached
        assert "measuring the original" in stages
        assert anew.record.metrics == original.record.metrics

    def test_other_class_names_are_told(self, level_3: Outcome) -> None:
        assert any("matched by index" in warning for warning in level_3.record.warnings)

    def test_working_files_are_removed(self, level_3: Outcome) -> None:
        assert [file.name for file in run_folder(level_3.record.key).iterdir()] == ["mine-level3.pt"]

    def test_zero_epochs_measure_without_training(self, trained_model: Path, tiny_shapes: Path) -> None:
        outcome = compress(str(trained_model), str(tiny_shapes), level=5, **{**SMALL, "epochs": 0})
        assert outcome.record.curve == ()
        assert outcome.record.metrics_recovered is not None
        assert outcome.record.metrics == outcome.record.metrics_recovered

    def test_without_recovery_there_is_none_in_the_record(self, trained_model: Path, tiny_shapes: Path) -> None:
        outcome = compress(
            str(trained_model), str(tiny_shapes), level=5, method=WITHOUT_IMAGES, **{**SMALL, "epochs": 0}
        )
        assert outcome.record.metrics_recovered is None
        assert outcome.record.metrics == outcome.record.metrics_pruned

    def test_csv_and_store_agree(self, level_3: Outcome) -> None:
        records = Store().records(model="mine")
        assert level_3.record in records
        assert f",{level_3.record.costs.params}," in to_csv(records).decode()

    def test_progress_reaches_caller_and_store(self, trained_model: Path, tiny_shapes: Path) -> None:
        told: list[Progress] = []
        compress(str(trained_model), str(tiny_shapes), level=1, tell=told.append, **SMALL)
        stages = list(dict.fromkeys(progress.stage for progress in told))
        assert stages[:3] == ["dataset", "measuring the original", "saving"]
        assert stages[3:] == [
            "pruning",
            "measuring before recovery",
            "recovering accuracy",
            "measuring before training",
            "fine-tuning",
            "measuring",
        ]
        last = [progress for progress in told if progress.stage == "fine-tuning"][-1]
        assert (last.epoch, last.epochs, last.eta_seconds) == (1, 1, 0)
        assert last.map50_95 is not None
        (run,) = Store().queue.runs()
        assert (run.state, run.progress.stage) == ("done", "saving")

    def test_failure_is_told_to_the_store(
        self, trained_model: Path, tiny_shapes: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("no space left\nsecond line")

        monkeypatch.setattr("compression.rounds.fine_tune", fail)
        with pytest.raises(RuntimeError):
            compress(str(trained_model), str(tiny_shapes), level=2, **PLAIN)
        (run,) = Store().queue.runs()
        assert (run.state, run.message) == ("failed", "RuntimeError: no space left")
        assert [record.level for record in Store().records(model="mine")] == [0]


class TestMethods:
    def test_steps_share_the_epochs_and_meet_the_target(self, trained_model: Path, tiny_shapes: Path) -> None:
        target = Target(gflops_kept=0.6, params_kept=0.6)
        outcome = compress(str(trained_model), str(tiny_shapes), target=target, steps=2, **{**SMALL, "epochs": 3})
        record = outcome.record
        assert [row.epoch for row in record.curve] == [1, 2, 3]
        # Live, epoch by epoch, the same was told.
        assert Store().queue.curve(record.key) == record.curve
        assert {"fine-tuning, step 1 of 2", "fine-tuning, step 2 of 2"} <= set(record.seconds)
        assert record.costs.params is not None
        assert record.costs_original.params is not None
        assert record.costs.params / record.costs_original.params == pytest.approx(0.6, abs=0.005)
        assert record.costs.gflops is not None
        assert record.costs_original.gflops is not None
        assert record.costs.gflops / record.costs_original.gflops == pytest.approx(0.6, abs=0.005)
        assert sum(row.params_after for row in record.layers) == record.costs.params
        assert sum(row.params_before for row in record.layers) == record.costs_original.params
        assert (record.metrics_pruned, record.metrics_recovered) == (None, None)
        assert [file.name for file in run_folder(record.key).iterdir()] == ["mine-gflops60-params60.pt"]

    def test_distillation_leaves_the_student_only(self, trained_model: Path, tiny_shapes: Path) -> None:
        outcome = compress(str(trained_model), str(tiny_shapes), level=5, recipe="distill", **PLAIN)
        assert outcome.record.curve[0].losses["train/dis_loss"] > 0
        assert outcome.checkpoint is not None
        module, _ = read_checkpoint(outcome.checkpoint)
        assert sum(parameter.numel() for parameter in module.parameters()) == outcome.record.costs.params

    def test_an_architecture_is_trained_without_a_teacher(self, tiny_shapes: Path) -> None:
        outcome = compress("yolo26n.yaml", str(tiny_shapes), level=5, recipe="distill", **PLAIN)
        assert "train/dis_loss" in outcome.record.curve[0].losses
        trained = next(record for record in Store().records(model="yolo26n") if record.curve and record.level == 0)
        assert trained.spec is not None
        assert trained.spec.recipe == "cosine"

    def test_training_that_only_loses_is_not_taken(
        self, trained_model: Path, tiny_shapes: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = Metrics(map50=0.9, map50_95=0.8, precision=0.9, recall=0.9)
        monkeypatch.setattr("compression.rounds.evaluate_for", lambda *_: good)
        outcome = compress(str(trained_model), str(tiny_shapes), level=5, **SMALL)
        untrained = compress(str(trained_model), str(tiny_shapes), level=5, **{**SMALL, "epochs": 0})
        assert NOT_BETTER in outcome.record.warnings
        assert len(outcome.record.curve) == 1
        assert outcome.checkpoint is not None
        assert untrained.checkpoint is not None
        files = (outcome.checkpoint, untrained.checkpoint)
        kept, before = (read_checkpoint(file)[0].state_dict() for file in files)
        assert all(torch.equal(kept[name], before[name]) for name in kept)

    def test_one_image_count_for_a_method_that_looks_at_none(self, trained_model: Path, tiny_shapes: Path) -> None:
        options = {**SMALL, "epochs": 0}
        first = compress(str(trained_model), str(tiny_shapes), level=1, method=WITHOUT_IMAGES, **options)
        same = replace(WITHOUT_IMAGES, calibration_images=50)
        assert compress(str(trained_model), str(tiny_shapes), level=1, method=same, **options).record == first.record

    def test_criterion_that_needs_images_has_them(self) -> None:
        with pytest.raises(SpecError, match="looks at training images"):
            plan("yolo26n.yaml", level=1, imgsz=64, method=CutMethod())

    def test_plan_of_a_trained_model_looks_at_the_images(self, trained_model: Path, tiny_shapes: Path) -> None:
        planned = plan(str(trained_model), level=5, imgsz=64, data=str(tiny_shapes))
        assert (planned.criterion, planned.allocation) == ("obs", "budget")
        assert Store().find_plan(plan_key("mine", open_detector(str(trained_model)).weights_sha256, 10, 64, 5)) is None

    def test_images_say_nothing_of_an_untrained_model(self, tiny_shapes: Path) -> None:
        with pytest.raises(SpecError, match="was not trained on the 10 classes"):
            plan("yolo26n.yaml", level=5, imgsz=64, data=str(tiny_shapes), method=CutMethod())


class TestClasses:
    def test_subset_is_kept_trained_and_measured(self, trained_model: Path, tiny_shapes: Path) -> None:
        outcome = compress(str(trained_model), str(tiny_shapes), level=5, classes="ring, 0", **SMALL)
        record = outcome.record
        assert record.spec is not None
        assert record.spec.classes == (0, 2)
        assert list(record.metrics.per_class) == ["disc", "ring"]
        assert outcome.checkpoint is not None
        module, _ = read_checkpoint(outcome.checkpoint)
        assert list(module.names.values()) == ["disc", "ring"]
        assert sum(parameter.numel() for parameter in module.parameters()) == record.costs.params
        original = next(each for each in Store().records(model="mine") if each.level == 0)
        assert original.costs == record.costs_original
        assert original.spec is not None
        assert original.spec.classes == (0, 2)

    def test_plan_of_a_subset_is_that_of_the_run(self, trained_model: Path, tiny_shapes: Path) -> None:
        options: dict[str, Any] = {"level": 5, "classes": "ring, 0"}
        options["method"] = CutMethod(criterion="l2", allocation="uniform")
        planned = plan(str(trained_model), data=str(tiny_shapes), imgsz=64, **options)
        run = compress(str(trained_model), str(tiny_shapes), **options, **{**SMALL, "epochs": 0})
        assert planned.nc == 2
        assert planned.after == run.record.costs
        assert planned.layers == run.record.layers
        looking = plan(str(trained_model), data=str(tiny_shapes), imgsz=64, level=5, classes="ring, 0")
        assert (looking.nc, looking.criterion) == (2, "obs")

    def test_all_classes_are_no_subset(self, trained_model: Path, tiny_shapes: Path) -> None:
        options = {**SMALL, "epochs": 0}
        every = ",".join(map(str, range(10)))
        first = compress(str(trained_model), str(tiny_shapes), level=1, classes=every, **options)
        assert compress(str(trained_model), str(tiny_shapes), level=1, **options).record == first.record

    def test_architecture_is_built_for_the_subset(self, tiny_shapes: Path) -> None:
        outcome = compress("yolo26n.yaml", str(tiny_shapes), level=0, classes="0,1", **PLAIN)
        assert outcome.checkpoint is not None
        assert len(read_checkpoint(outcome.checkpoint)[0].names) == 2


class TestUntrainedModels:
    def test_architecture_is_trained_first_and_only_once(self, tiny_shapes: Path) -> None:
        first = compress("yolo26n.yaml", str(tiny_shapes), level=5, **PLAIN)
        assert "training the original" in first.record.seconds
        second = compress("yolo26n.yaml", str(tiny_shapes), level=4, **PLAIN)
        assert "training the original" not in second.record.seconds
        assert first.record.spec is not None
        assert second.record.spec is not None
        assert first.record.spec.weights_sha256 == second.record.spec.weights_sha256
        assert first.record.metrics_original == second.record.metrics_original
        assert compress("yolo26n.yaml", str(tiny_shapes), level=5, **PLAIN).cached

    def test_no_epochs_train_nothing(self, tiny_shapes: Path) -> None:
        with pytest.raises(SpecError, match=r"'yolo26n' was not trained on .* give --epochs 1 or more"):
            compress("yolo26n.yaml", str(tiny_shapes), level=0, **{**SMALL, "epochs": 0})

    def test_model_of_other_classes_gets_the_data_sets(self, tmp_path: Path, tiny_shapes: Path) -> None:
        file = tmp_path / "coco.pt"
        write_checkpoint(open_detector("yolo11n.yaml").module, file, {})
        outcome = compress(str(file), str(tiny_shapes), level=5, **PLAIN)
        assert outcome.checkpoint is not None
        module, _ = read_checkpoint(outcome.checkpoint)
        assert list(module.names.values())[:2] == ["disc", "striped disc"]
        assert outcome.record.head == "nms"

    def test_compressed_model_is_not_rebuilt_for_other_classes(self, tmp_path: Path, tiny_shapes: Path) -> None:
        prune("yolo26n.yaml", out=tmp_path / "cut.pt", level=5, imgsz=64)
        with pytest.raises(ModelError, match="compressed for 80 classes and the data set has 10"):
            compress(str(tmp_path / "cut.pt"), str(tiny_shapes), level=1, **PLAIN)


class TestResume:
    def test_killed_run_goes_on_and_keeps_the_pruned_architecture(
        self, trained_model: Path, tiny_shapes: Path, own_home: Path
    ) -> None:
        # The process is killed when its second epoch is over, as by `kill -9`: no handler runs.
        program = (
            "import os\n"
            "from compression import compress\n"
            "def tell(progress):\n"
            "    if progress.stage == 'fine-tuning' and progress.epoch == 2: os.kill(os.getpid(), 9)\n"
            f"compress({str(trained_model)!r}, {str(tiny_shapes)!r}, level=5, epochs=4, imgsz=64, batch=4, "
            "device='cpu', tell=tell)\n"
        )
        killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert killed.returncode == -9, killed.stderr
        (run,) = Store().queue.runs()
        assert run.state == "interrupted"
        outcome = compress(str(trained_model), str(tiny_shapes), level=5, epochs=4, imgsz=64, batch=4, device="cpu")
        assert [row.epoch for row in outcome.record.curve] == [1, 2, 3, 4]
        assert all(row.seconds > 0 for row in outcome.record.curve)
        # What the killed process did counts: its cut, and its epochs.
        assert {"pruning", "recovering accuracy"} <= set(outcome.record.seconds)
        assert outcome.record.seconds["fine-tuning"] >= sum(row.seconds for row in outcome.record.curve) - 0.01
        assert outcome.checkpoint is not None
        module, _ = read_checkpoint(outcome.checkpoint)
        assert sum(parameter.numel() for parameter in module.parameters()) == outcome.record.costs.params


class TestPlanAndPrune:
    def test_plan_is_what_prune_does(self, tmp_path: Path) -> None:
        planned = plan("yolo26n.yaml", level=5, imgsz=320)
        pruned = prune("yolo26n.yaml", level=5, imgsz=320, out=tmp_path / "cut.pt")
        assert planned.after == pruned.plan.after
        assert planned.layers == pruned.plan.layers
        assert type(pruned.module) is DetectionModel
        assert Store().find_plan(plan_key("yolo26n", None, 80, 320, 5)) == planned

    def test_plan_takes_the_classes_of_a_data_set(self, own_home: Path) -> None:
        planned = plan("yolo26n.yaml", level=1, data="shapes")
        assert (planned.nc, planned.criterion, planned.allocation) == (10, "l2", "uniform")
        assert not (own_home / "datasets").exists()

    def test_plan_of_some_of_the_models_own_classes(self) -> None:
        every, some = (plan("yolo26n.yaml", level=5, imgsz=320, classes=text) for text in ("", "0, 2"))
        assert (every.nc, some.nc) == (80, 2)
        assert every.before.params is not None
        assert some.before.params is not None
        # Three levels of two heads lose 78 outputs, each with a bias, that read 80 channels.
        assert every.before.params - some.before.params == 2 * 3 * 78 * 81
        with pytest.raises(SpecError, match="There is no class 'prson'"):
            plan("yolo26n.yaml", level=5, imgsz=320, classes="prson")

    def test_custom_target_with_one_cost(self) -> None:
        planned = plan("yolo26n.yaml", target=Target(gflops_kept=0.5, params_kept=None), imgsz=320)
        assert planned.after.gflops is not None
        assert planned.before.gflops is not None
        assert planned.after.gflops / planned.before.gflops == pytest.approx(0.5, abs=0.005)

    @pytest.mark.parametrize("level", [-1, 6, True])
    def test_levels_that_do_not_exist(self, level: int) -> None:
        with pytest.raises(SpecError, match=f"Level {level} does not exist"):
            plan("yolo26n.yaml", level=level)

    def test_level_and_target_exclude_each_other(self) -> None:
        with pytest.raises(SpecError, match="either a level"):
            plan("yolo26n.yaml", level=1, target=Target(gflops_kept=0.5, params_kept=None))

    def test_contradicting_targets(self) -> None:
        with pytest.raises(TargetError, match="contradict each other"):
            plan("yolo26n.yaml", target=Target(gflops_kept=0.95, params_kept=0.25), imgsz=320)

    def test_pruned_twice(self, tmp_path: Path) -> None:
        prune("yolo26n.yaml", level=5, imgsz=64, out=tmp_path / "once.pt")
        twice = prune(str(tmp_path / "once.pt"), level=5, imgsz=64)
        assert twice.plan.after.params is not None
        assert twice.plan.before.params is not None
        assert twice.plan.after.params / twice.plan.before.params == pytest.approx(0.75, abs=0.005)


def test_spec_of_a_shipped_record_names_no_place(level_3: Outcome) -> None:
    spec = level_3.record.spec
    assert spec is not None
    handed_on = spec.without_places()
    assert handed_on.key == spec.key
    assert "/" not in handed_on.model + handed_on.data_source
    assert replace(handed_on, model=spec.model, data_source=spec.data_source) == spec
