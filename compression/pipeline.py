"""The way of a run: from what is asked to a stored result, telling its progress as it goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from cache.database import StoreError
from cache.record import CHECKPOINT, Artifact, EpochRow, Metrics, Progress, RunRecord
from cache.store import own_store
from compression.accuracy.evaluation import evaluate_for
from compression.data.classes import class_subset, keep_classes, parse_subset
from compression.data.dataset import Dataset, open_dataset
from compression.environment import check_device, commit, describe_environment, lanes
from compression.errors import ModelError, SpecError, TrimboardError
from compression.home import run_folder
from compression.levels import ORIGINAL, resolve_target, target_of
from compression.life import SignsOfLife
from compression.models.checkpoint import checkpoint_info, write_checkpoint
from compression.models.detector import (
    UNFUSED,
    Detector,
    file_sha256,
    is_architecture,
    n_channels,
    needs_training,
    open_detector,
    read_checkpoint,
    task_asked_for,
    with_classes,
)
from compression.models.kinds import check_image_size
from compression.pruning.cut import looks_at_images, settled
from compression.pruning.planner import Planner
from compression.request import RunRequest
from compression.rounds import Compressed, Rounds
from compression.spec import (
    DEFAULT_BATCH,
    DEFAULT_EPOCHS,
    DEFAULT_PATIENCE,
    DEFAULT_RECIPE,
    DEFAULT_SEED,
    WITHOUT_IMAGES,
    CutMethod,
    HeadName,
    RecipeName,
    RunSpec,
    Target,
)
from compression.stages import Stages
from compression.telling import Tell, silent
from compression.training.failures import plain_errors
from compression.training.finetune import fine_tune
from compression.training.shared_run import DRAFT, TRAINING_FOLDER, fetch_run, forget_run, remove_working_files
from compression.wishes import Wish

INTERRUPTED_BY_HAND = "Interrupted. Resume the run: it goes on from its last whole epoch."
TRAINING = "training the original"

# What an uncut model's key says of how it was cut.
_NOTHING_CUT: dict[str, Any] = {
    "criterion": WITHOUT_IMAGES.criterion,
    "allocation": WITHOUT_IMAGES.allocation,
    "recovery": WITHOUT_IMAGES.recovery,
    "calibration_images": WITHOUT_IMAGES.calibration_images,
    "steps": 1,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What `compress` gives back.

    Attributes:
        record: the result.
        cached: it was measured earlier and nothing was run.
        checkpoint: file of the compressed model; None where it was removed since.
    """

    record: RunRecord
    cached: bool
    checkpoint: Path | None


def compress(
    model: str,
    data: str,
    *,
    level: int | None = None,
    target: Target | None = None,
    layers: tuple[Wish, ...] = (),
    classes: str = "",
    recipe: RecipeName = DEFAULT_RECIPE,
    method: CutMethod | None = None,
    steps: int = 1,
    epochs: int = DEFAULT_EPOCHS,
    patience: int = DEFAULT_PATIENCE,
    imgsz: int | None = None,
    batch: int = DEFAULT_BATCH,
    seed: int = DEFAULT_SEED,
    device: str = "",
    head: HeadName | None = None,
    again: bool = False,
    log_file: str = "",
    tell: Tell = silent,
) -> Outcome:
    """Prune, fine-tune, measure and store; or give back what was stored earlier for the same question.

    A model that was not trained on the data set's classes (a .yaml, or other classes) is trained first, by the same
    recipe and for as many epochs: that is its level 0. An interrupted run goes on from its last whole epoch.

    Args:
        model: catalog name, .yaml, or the path of a .pt.
        data: "shapes", a name of Ultralytics' catalog, a data.yaml, or a folder that holds one.
        level: 0 to 5; None with a custom target.
        target: the costs to keep where `level` is None; not needed where layers are given.
        layers: what single layers keep; level or target are met by the others.
        classes: names or indices of the only classes to keep, as "person,car"; empty for all.
        recipe: how to fine-tune.
        method: how channels are chosen and accuracy is recovered before training; its seed is not used.
        steps: reach the target in so many rounds of cutting and fine-tuning, which share the epochs.
        epochs: at most so many epochs of fine-tuning; 0 measures without training.
        patience: epochs without a better result after which fine-tuning ends.
        imgsz: side of the square input, pixels; None for the model's usual one.
        batch: images a step.
        seed: of everything random.
        device: Ultralytics' device string; "" lets it choose.
        head: predictions to measure; end-to-end where the model has them and None is given.
        again: run even where a result is stored, and put the new one in its place.
        log_file: where this process's output goes, for whoever looks at the run.
        tell: receives the progress.

    Raises:
        TrimboardError: something asked for cannot be used.
    """
    request = RunRequest(
        model=model,
        data=data,
        level=level,
        target=target,
        layers=layers,
        classes=classes,
        recipe=recipe,
        method=method or CutMethod(),
        steps=steps,
        epochs=epochs,
        patience=patience,
        imgsz=imgsz,
        batch=batch,
        seed=seed,
        device=device,
        head=head,
        again=again,
    )
    return run(open_request(request, tell=tell), log_file=log_file, tell=tell)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request whose model and data are open.

    Attributes:
        request: as it was typed, with the image size that nobody gave.
        spec: what that means; its key is the result's unless the original has to be trained first.
        dataset: what to train and measure on.
        detector: what to cut.
        fitting: wishes that this model's layers can meet in steps of so many channels; None where there were none yet.
    """

    request: RunRequest
    spec: RunSpec
    dataset: Dataset
    detector: Detector
    fitting: tuple[tuple[Wish, ...], int] | None = None


def open_request(request: RunRequest, *, tell: Tell = silent) -> Question:
    """Open the model and check the data set, with nothing written but a view of a class subset.

    Raises:
        TrimboardError: something asked for cannot be used.
    """
    # What is wrong with it is told before a data set is looked through.
    resolve_target(request.level, request.target, request.layers)
    check_device(request.device)
    tell(Progress(stage="dataset"))
    opened = None if is_architecture(request.model) else open_detector(request.model)
    whole = open_dataset(request.data, opened.task if opened else task_asked_for(request.model))
    kept = parse_subset(request.classes, whole.names)
    dataset = class_subset(whole, kept) if kept else whole
    detector = opened or open_detector(request.model, nc=dataset.nc, kpt_shape=dataset.kpt_shape, seed=request.seed)
    if (channels := n_channels(detector.module)) != 3:
        raise ModelError(
            f"{detector.label!r} takes images of {channels} channels and {dataset.name!r} has colour images of 3; "
            f"`trimboard plan` and `prune` can cut it, fine-tuning and measuring cannot be done here."
        )
    if kept and detector.file is not None and len(detector.module.names) == whole.nc:
        detector = replace(detector, module=keep_classes(detector.module, kept))
    return _asked(request, dataset, detector, kept, None)


def ask_also(question: Question, request: RunRequest) -> Question:
    """The question of another request for the same model, data set, classes and device, which are open already.

    Raises:
        TrimboardError: something asked for cannot be used.
    """
    return _asked(request, question.dataset, question.detector, question.spec.classes, question.fitting)


def _asked(
    request: RunRequest,
    dataset: Dataset,
    detector: Detector,
    kept: tuple[int, ...],
    fitting: tuple[tuple[Wish, ...], int] | None,
) -> Question:
    """The question of a request for what is open.

    Args:
        request: as it was typed.
        dataset: of the kept classes.
        detector: likewise.
        kept: indices of the only classes; none stands for all.
        fitting: see `Question`.
    """
    spec = _spec(request, dataset, detector, kept)
    wished = (spec.target.layers, spec.align)
    if spec.target.layers and wished != fitting:
        # Before it waits in a queue: a layer may be mistyped.
        module = detector.module
        if needs_training(detector, dataset.nc, dataset.kpt_shape, dataset.names):
            module = with_classes(detector, dataset.names, dataset.kpt_shape)
        Planner(module, spec.imgsz, align=spec.align).layer_groups.pins(spec.target.layers)
        fitting = wished
    # As it is queued and resumed, a request does not depend on what the file says later.
    request = replace(request, imgsz=spec.imgsz)
    return Question(request=request, spec=spec, dataset=dataset, detector=detector, fitting=fitting)


def _spec(request: RunRequest, dataset: Dataset, detector: Detector, kept: tuple[int, ...]) -> RunSpec:
    if request.recipe == "distill" and detector.task == "classify":
        raise SpecError(
            f"Recipe 'distill' teaches by the feature maps that a head for objects reads, and {detector.label!r} is a "
            f"classifier; choose another recipe."
        )
    imgsz = detector.usual_imgsz if request.imgsz is None else request.imgsz
    check_image_size(detector.module, imgsz)
    return RunSpec(
        model=request.model,
        weights_sha256=detector.weights_sha256,
        data=dataset.name,
        data_fingerprint=dataset.fingerprint,
        level=request.level,
        target=resolve_target(request.level, request.target, request.layers),
        classes=kept,
        head=detector.choose_head(request.head),
        task=detector.task,
        recipe=request.recipe,
        steps=request.steps,
        epochs=request.epochs,
        patience=request.patience,
        imgsz=imgsz,
        batch=request.batch,
        device=request.device,
        data_source=request.data,
        **asdict(replace(_as_used(request.method), seed=request.seed)),
    )


def run(question: Question, *, log_file: str = "", tell: Tell = silent) -> Outcome:
    """Answer an open question, see `compress`.

    Raises:
        TrimboardError: something asked for cannot be used.
    """
    return _Run(question, tell, log_file).outcome(question.detector)


def find_result(question: Question) -> RunRecord | None:
    """What was measured earlier for the same question."""
    return _Run(question, silent, "").find(question.detector)


def _as_used(method: CutMethod) -> CutMethod:
    """The method without a number of images that nobody looks at, so that equal questions have equal keys."""
    return method if looks_at_images(method) else replace(method, calibration_images=0)


@dataclass(frozen=True, kw_only=True)
class StoreTeller:
    """Tells a run's progress to the store, then to the caller; picklable, so that it reaches a training's processes.

    Attributes:
        key: the run's.
        further: receives the progress too.
    """

    key: str
    further: Tell

    def __call__(self, progress: Progress) -> None:
        # A database that is away for a moment must not end a training of days.
        with suppress(StoreError):
            own_store().queue.tell(self.key, progress)
        self.further(progress)


class _Run:
    """One call of `compress`, from an opened model on."""

    def __init__(self, question: Question, tell: Tell, log_file: str) -> None:
        self.asked = question.spec
        self.request = question.request
        self.dataset = question.dataset
        self.tell: Tell = StoreTeller(key=self.asked.key, further=tell)
        self.log_file = log_file
        self.stages = Stages(self.tell)
        self.warnings: tuple[str, ...] = ()
        commit()

    def outcome(self, detector: Detector) -> Outcome:
        """The stored result where there is one and nobody asks for another, else a new one."""
        cached = None if self.request.again else self.find(detector)
        original_again = self.request.again and self.asked.level == ORIGINAL
        if cached:
            return Outcome(record=cached, cached=True, checkpoint=own_store().artifact_path(cached))
        with self._registered(), plain_errors(self.dataset, run_folder(self.asked.key)):
            detector = self._settled(detector)
            if needs_training(detector, self.dataset.nc, self.dataset.kpt_shape, self.dataset.names):
                detector = self._train_original(detector, again=original_again)
            record = self._measure_original(detector, again=original_again)
            if self.asked.level != ORIGINAL:
                record = self._compress(detector, record)
        return Outcome(record=record, cached=False, checkpoint=own_store().artifact_path(record))

    def _settled(self, detector: Detector) -> Detector:
        """The model as it can be trained, see `unfuse`."""
        done = settled(detector, self.dataset, imgsz=self.asked.imgsz, device=self.asked.device)
        self.warnings = () if done is detector else detector.warnings
        return done

    def find(self, detector: Detector) -> RunRecord | None:
        """The stored result."""
        if needs_training(detector, self.dataset.nc, self.dataset.kpt_shape, self.dataset.names):
            checkpoint = self._trained_checkpoint()
            if checkpoint is None:
                return None
            detector = open_detector(str(checkpoint))
        spec = self._original_spec(detector) if self.asked.level == ORIGINAL else self._spec_of(detector)
        return own_store().find(spec.key)

    @contextmanager
    def _registered(self) -> Iterator[None]:
        """Note the run as running, and how it ended."""
        queue, key = own_store().queue, self.asked.key
        queue.begin(self.asked, self.request, lanes=lanes(self.asked.device), pid=os.getpid(), log_file=self.log_file)
        try:
            with SignsOfLife(key, self.asked.device):
                yield
        except KeyboardInterrupt:
            queue.end(key, "interrupted", INTERRUPTED_BY_HAND)
            raise
        except BaseException as error:
            # Where the disk is full this cannot be noted; the error itself tells it.
            with suppress(StoreError):
                queue.end(key, "failed", _reason(error))
            raise
        queue.end(key, "done")

    def _training_spec(self) -> RunSpec:
        """What training the original is cached under: it does not depend on the cut that is wanted."""
        # There is nobody yet who could teach it.
        recipe: RecipeName = DEFAULT_RECIPE if self.asked.recipe == "distill" else self.asked.recipe
        return replace(self.asked, level=ORIGINAL, target=target_of(ORIGINAL), recipe=recipe, **_NOTHING_CUT)

    def _trained_checkpoint(self) -> Path | None:
        """The original as it was trained for this data set earlier, where it was."""
        trained = own_store().find(self._training_spec().key)
        return own_store().artifact_path(trained) if trained else None

    def _spec_of(self, detector: Detector) -> RunSpec:
        """What was asked, of the weights that are really cut."""
        return replace(self.asked, model=str(detector.file), weights_sha256=detector.weights_sha256)

    def _original_spec(self, detector: Detector) -> RunSpec:
        """What measuring the original is cached under: nothing about fine-tuning matters."""
        return replace(
            self._spec_of(detector),
            level=ORIGINAL,
            target=target_of(ORIGINAL),
            recipe="standard",
            epochs=0,
            patience=DEFAULT_PATIENCE,
            batch=DEFAULT_BATCH,
            seed=DEFAULT_SEED,
            **_NOTHING_CUT,
        )

    def _train_original(self, detector: Detector, *, again: bool) -> Detector:
        """Train a model that does not know the data set's classes yet; its checkpoint is what is cut then."""
        spec = self._training_spec()
        folder = run_folder(spec.key)
        with _alone_in(folder):
            stored = None if again else self._trained_checkpoint()
            if stored is None and not spec.epochs:
                raise SpecError(
                    f"{detector.label!r} was not trained on the classes of {self.dataset.name!r}, and 0 epochs do not "
                    f"train it; give --epochs 1 or more, or a .pt that was."
                )
            if stored is None:
                fetch_run(folder)
                module = with_classes(detector, self.dataset.names, self.dataset.kpt_shape)
                module.names = dict(self.dataset.names)
                start, draft = folder / "start.pt", folder / DRAFT
                write_checkpoint(module, start, {})
                with self.stages(TRAINING):
                    training = fine_tune(
                        start, self.dataset, spec, folder / TRAINING_FOLDER, tell=self.tell, stage=TRAINING
                    )
                self.stages.at_least(TRAINING, training.seconds)
                trained, _ = read_checkpoint(training.best)
                write_checkpoint(trained, draft, {})
                metrics = evaluate_for(spec, draft, self.dataset)
                stored = folder / f"{detector.label}.pt"
                self._save(
                    spec,
                    replace(detector, module=trained),
                    draft,
                    stored.name,
                    original=metrics,
                    metrics=metrics,
                    curve=training.curve,
                    warnings=training.warnings,
                )
                _clear(folder)
        return open_detector(str(stored))

    def _measure_original(self, detector: Detector, *, again: bool) -> RunRecord:
        spec = self._original_spec(detector)
        with _alone_in(run_folder(spec.key)):
            found = own_store().find(spec.key)
            if found and not again:
                return found
            assert detector.file is not None
            draft = run_folder(spec.key) / DRAFT
            if spec.classes or self.warnings:
                write_checkpoint(detector.module, draft, {})
            else:
                shutil.copy(detector.file, draft)
            with self.stages("measuring the original"):
                metrics = evaluate_for(spec, draft, self.dataset)
            return self._save(spec, detector, draft, f"{detector.label}.pt", original=metrics, metrics=metrics)

    def _compress(self, detector: Detector, original: RunRecord) -> RunRecord:
        spec = self._spec_of(detector)
        folder = run_folder(spec.key)
        fetch_run(folder)
        teacher = own_store().artifact_path(original) or detector.file
        assert teacher is not None
        made = Rounds(
            original=detector.module,
            teacher=teacher,
            dataset=self.dataset,
            spec=spec,
            folder=folder,
            tell=self.tell,
            stages=self.stages,
        ).run()
        # An earlier result of the same question keeps its file until this one is stored.
        draft = folder / DRAFT
        trained, _ = read_checkpoint(made.checkpoint)
        write_checkpoint(trained, draft, {})
        metrics = None if made.curve else made.recovered or made.pruned
        # Without training, what was measured on the way is of the same weights.
        if metrics is None:
            with self.stages("measuring"):
                metrics = evaluate_for(spec, draft, self.dataset)
        name = f"{detector.label}-{_suffix(spec)}.pt"
        record = self._save(spec, detector, draft, name, original=original.metrics, metrics=metrics, made=made)
        _clear(folder)
        return record

    def _save(
        self,
        spec: RunSpec,
        detector: Detector,
        draft: Path,
        name: str,
        *,
        original: Metrics,
        metrics: Metrics,
        made: Compressed | None = None,
        curve: tuple[EpochRow, ...] = (),
        warnings: tuple[str, ...] = (),
    ) -> RunRecord:
        """Store the result under the name, and note it in the checkpoint as far as that is ours."""
        module, _ = read_checkpoint(draft)
        planner = Planner(detector.module, spec.imgsz, align=spec.align)
        costs_original, _ = planner.outcome(detector.module)
        costs, layers = planner.outcome(module, spec.target.layers)
        record = RunRecord(
            key=spec.key,
            provenance="measured",
            model=detector.label,
            architecture=detector.architecture,
            data=self.dataset.name,
            level=spec.level,
            head=spec.head,
            imgsz=spec.imgsz,
            costs_original=costs_original,
            costs=costs,
            metrics_original=original,
            metrics_pruned=made.pruned if made else None,
            metrics_recovered=made.recovered if made else None,
            metrics=metrics,
            spec=spec,
            layers=layers,
            curve=made.curve if made else curve,
            environment=describe_environment(spec.device),
            seconds=dict(self.stages.seconds),
            warnings=(*self.warnings, *(made.warnings if made else warnings), *self._name_warnings(detector)),
            time=made.time if made else None,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if record.curve or spec.level != ORIGINAL or spec.classes:
            noted = {UNFUSED: True} if detector.was_unfused and not record.curve else {}
            info = checkpoint_info(detector.label, {**record.without_places().to_dict(), **noted})
            write_checkpoint(module, draft, info)
        artifact = Artifact(
            name=CHECKPOINT,
            file=name,
            sha256=file_sha256(draft),
            size_bytes=draft.stat().st_size,
        )
        record = replace(record, artifacts=(artifact,))
        self.tell(Progress(stage="saving"))
        own_store().save(record, draft=draft)
        return record

    def _name_warnings(self, detector: Detector) -> list[str]:
        known = [str(name) for name in detector.module.names.values()]
        wanted = list(self.dataset.names.values())
        if detector.file is None or len(known) != len(wanted) or known == wanted:
            return []
        return [
            f"The model names its classes {', '.join(known)} and the data set {', '.join(wanted)}; "
            f"they were matched by index."
        ]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process works on a result that several runs need: each finds it when its turn comes."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


def _suffix(spec: RunSpec) -> str:
    short = {"GFLOPs": "gflops", "parameters": "params"}
    parts = [f"{short.get(name, name)}{100 * part:g}" for name, part in spec.target.parts.items()]
    parts = parts if spec.level is None else [f"level{spec.level}"]
    return "-".join([*parts, "layers"] if spec.target.layers else parts)


def _clear(folder: Path) -> None:
    """Drop, wherever it lies, what only an interrupted run would need."""
    remove_working_files(folder)
    forget_run(folder)


def _reason(error: BaseException) -> str:
    """One sentence for the page."""
    if isinstance(error, TrimboardError):
        return str(error)
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
