"""From an original to a compressed checkpoint: rounds of cutting, recovering and fine-tuning, usually one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ultralytics.nn.tasks import DetectionModel

from cache.record import EpochRow, Metrics, Progress, TimeKept
from compression.accuracy.evaluation import evaluate_for
from compression.catalog import model_label
from compression.data.dataset import Dataset
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import read_checkpoint
from compression.pruning.cut import Cutter
from compression.pruning.planner import Planner
from compression.spec import RunSpec, Target
from compression.stages import Stages
from compression.telling import Tell
from compression.training.finetune import fine_tune
from compression.training.shared_run import DRAFT, TRAINING_FOLDER

FINE_TUNING = "fine-tuning"
NOT_BETTER = "The best epoch of fine-tuning was worse than the model before it, which was kept."


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """What the rounds left.

    Attributes:
        checkpoint: the compressed model.
        pruned: accuracy after the cut; None where it took several.
        recovered: accuracy after recovery, before any training; None where nothing was recovered.
        curve: epochs of all rounds, numbered through.
        warnings: a sentence for whatever the reader of the figures must know.
        time: what is kept of a forward pass's time; None where no latency was asked for.
    """

    checkpoint: Path
    pruned: Metrics | None
    recovered: Metrics | None
    curve: tuple[EpochRow, ...]
    warnings: tuple[str, ...]
    time: TimeKept | None = None


@dataclass(frozen=True, kw_only=True)
class NumberedThrough:
    """Tells progress with the epochs of all rounds numbered through; picklable, as a multi-GPU training wants it.

    Attributes:
        tell: receives the progress.
        n_before: epochs of the rounds before.
    """

    tell: Tell
    n_before: int

    def __call__(self, progress: Progress) -> None:
        row = progress.finished
        told = replace(row, epoch=row.epoch + self.n_before) if row else None
        self.tell(replace(progress, finished=told))


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """One run's way from the original to the compressed model.

    Attributes:
        original: the detector before any cut.
        teacher: its checkpoint, for a recipe that is taught.
        dataset: what to train and measure on.
        spec: what was asked.
        folder: of the run; what an interrupted one had done there is taken over.
        tell: receives the progress.
        stages: of the run.
    """

    original: DetectionModel
    teacher: Path
    dataset: Dataset
    spec: RunSpec
    folder: Path
    tell: Tell
    stages: Stages

    def run(self) -> Compressed:
        """All rounds.

        Raises:
            TargetError: the model cannot be cut that far.
        """
        curve: list[EpochRow] = []
        warnings: list[str] = []
        made = self._cut(1, self.original)
        for number in range(1, self.spec.steps + 1):
            if number > 1:
                made = self._cut(number, read_checkpoint(made.checkpoint)[0])
            trained = self._fine_tune(number, made, len(curve))
            curve += [replace(row, epoch=row.epoch + len(curve)) for row in trained.curve]
            warnings += trained.warnings
            made = trained
        return replace(made, curve=tuple(curve), warnings=tuple(dict.fromkeys(warnings)))

    def _cut(self, number: int, module: DetectionModel) -> Compressed:
        """Cut one step further; what was measured on the way is noted in the checkpoint, and found there again."""
        file = self.folder / f"cut-{number}.pt"
        if not file.is_file():
            stages = Stages(self.tell)
            with stages("pruning"):
                cutter = self._cutter(module)
                cut = cutter.cut(self._target(number, cutter))
            time = asdict(cut.plan.time) if cut.plan.time else None
            noted: dict[str, Any] = {
                "warnings": list(cut.plan.warnings),
                "pruned": None,
                "recovered": None,
                "time": time,
            }
            if self.spec.steps == 1:
                noted["pruned"] = self._measured(stages, "measuring before recovery", cut.module)
            with stages("recovering accuracy"):
                recovered = cutter.recover(cut)
            if self.spec.steps == 1 and recovered is not cut.module:
                noted["recovered"] = self._measured(stages, "measuring before training", recovered)
            noted["seconds"] = stages.seconds
            write_checkpoint(recovered, file, noted)
        _, noted = read_checkpoint(file)
        # A run of before these were noted, which goes on, has none.
        self.stages.add(noted.get("seconds", {}))
        return Compressed(
            checkpoint=file,
            pruned=_metrics(noted["pruned"]),
            recovered=_metrics(noted["recovered"]),
            curve=(),
            warnings=tuple(noted["warnings"]),
            # A run of before there were latencies, which goes on, noted none.
            time=TimeKept(**noted["time"]) if noted.get("time") else None,
        )

    def _cutter(self, module: DetectionModel) -> Cutter:
        return Cutter(
            module,
            self.spec.imgsz,
            self.spec.method,
            dataset=self.dataset,
            device=self.spec.device,
            original=self.original,
            head=self.spec.head,
            label=model_label(self.spec.model),
            tell=self.tell,
        )

    def _target(self, number: int, cutter: Cutter) -> Target:
        """What this round is to keep of the model it begins with, so that all rounds cut equally much."""
        if self.spec.steps == 1:
            return self.spec.target
        before, _ = Planner(self.original, self.spec.imgsz).outcome(self.original)
        now = cutter.before

        def part(kept: float | None, original: float | None, current: float | None) -> float | None:
            if kept is None:
                return None
            assert original
            assert current
            return min((1 - (1 - kept) * number / self.spec.steps) * original / current, 1.0)

        return Target(
            gflops_kept=part(self.spec.target.gflops_kept, before.gflops, now.gflops),
            params_kept=part(self.spec.target.params_kept, before.params, now.params),
        )

    def _measured(self, stages: Stages, stage: str, module: DetectionModel) -> dict[str, Any]:
        draft = self.folder / DRAFT
        write_checkpoint(module, draft, {})
        try:
            with stages(stage):
                return asdict(evaluate_for(self.spec, draft, self.dataset))
        finally:
            draft.unlink()

    def _fine_tune(self, number: int, cut: Compressed, n_before: int) -> Compressed:
        """Train this round's share of the epochs, which come after those of the rounds before."""
        steps = self.spec.steps
        epochs = self.spec.epochs * number // steps - self.spec.epochs * (number - 1) // steps
        if not epochs:
            return cut
        name = FINE_TUNING if steps == 1 else f"{FINE_TUNING}, step {number} of {steps}"
        with self.stages(name):
            training = fine_tune(
                cut.checkpoint,
                self.dataset,
                replace(self.spec, epochs=epochs),
                self.folder / (TRAINING_FOLDER if number == 1 else f"{TRAINING_FOLDER}-{number}"),
                teacher=self.teacher,
                tell=NumberedThrough(tell=self.tell, n_before=n_before),
                stage=name,
            )
        self.stages.at_least(name, training.seconds)
        trained = replace(cut, curve=training.curve, warnings=(*cut.warnings, *training.warnings))
        start = cut.recovered or cut.pruned
        if start and training.best_row.map50_95 < (start.map50_95 or 0.0):
            return replace(trained, warnings=(*trained.warnings, NOT_BETTER))
        return replace(trained, checkpoint=training.best)


def _metrics(noted: dict[str, Any] | None) -> Metrics | None:
    return Metrics(**noted) if noted else None
