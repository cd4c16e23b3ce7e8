"""A cut that meets a latency: planned by predicted times of the layers, then timed, and planned again where they err.

Times do not depend on weights. So what was measured is stored under a name for the channel counts alone, and the same
question is answered from the store.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from ultralytics.nn.tasks import DetectionModel

from cache.latency import LatencyRecord
from cache.layer_times import LayerTimesRecord
from cache.record import TimeKept
from cache.store import own_store
from compression.deployment.backends import Bench, Setting, bench_here, why_not_here
from compression.deployment.exported import exports_folder
from compression.deployment.latency import Timed, latency_spec, measure
from compression.deployment.layer_times import layer_times_spec, structure_of, time_and_store
from compression.deployment.profiling import check_profiled
from compression.errors import SpecError, TargetError
from compression.image_size import ImageSize, longer_side
from compression.models.checkpoint import write_checkpoint
from compression.models.kinds import largest_stride
from compression.pruning.latency_model import LatencyModel
from compression.pruning.planner import Planner, PruningPlan
from compression.pruning.surgery import apply_plan, keep_channels
from compression.spec import MIN_KEPT, BackendName, HeadName, LatencyTarget, PrecisionName, Target
from compression.telling import Tell

# Layers are timed at full width and at so many others, down to the least of which too few channels are left for a
# kernel to work as it does on more.
N_WIDTHS = 8
LEAST_WIDTH = 0.25
WIDTHS_SEED = 0

# A cut is planned again while what is measured is farther than this from what was asked for, so many times at most.
NEAR_ENOUGH = 0.02
MAX_PLANS = 4

PRECISION: PrecisionName = "fp32"
BATCH = 1


def latency_target(kept: float, backend: BackendName, threads: int) -> LatencyTarget:
    """A latency to keep on this machine.

    Raises:
        SpecError: the part or the number of threads is out of range, or the backend is not here or tells no times.
    """
    check_profiled(backend)
    if reason := why_not_here(backend):
        raise SpecError(reason)
    return LatencyTarget(kept=kept, backend=backend, threads=threads, **asdict(bench_here(backend)))


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """Plans cuts of one model that meet latencies, and times them.

    Attributes:
        planner: of the model.
        module: the model; not modified.
        label: what progress and records call it.
        imgsz: size of the input.
        head: whose predictions are computed.
        tell: receives the progress.
    """

    planner: Planner
    module: DetectionModel
    label: str
    imgsz: ImageSize
    head: HeadName
    tell: Tell

    def plan(self, target: Target) -> PruningPlan:
        """The plan whose measured time is nearest to the target's, with what was predicted and measured of it.

        Raises:
            SpecError: the target is for another machine, and times of that are not stored here.
            TargetError: the model cannot be cut that far.
        """
        latency = target.latency
        assert latency is not None
        setting = Setting(
            backend=latency.backend,
            precision=PRECISION,
            imgsz=self.imgsz,
            batch=BATCH,
            threads=latency.threads,
            head=self.head,
        )
        planner = self.planner.timed_by(LatencyModel(self.planner.costs, self._times(latency, setting).forms))
        plans: list[PruningPlan] = []
        errors: list[float] = []
        goal = latency.kept
        while len(plans) < MAX_PLANS:
            try:
                made = planner.plan(replace(target, latency=replace(latency, kept=goal)))
            except TargetError:
                if not plans:
                    raise
                # Only the corrected goal is out of reach, which nobody asked for.
                break
            made = replace(made, target=target, time=self._timed(made, latency, setting))
            plans.append(made)
            assert made.time is not None
            measured = made.time.measured_kept
            if measured is None or abs(measured / latency.kept - 1) <= NEAR_ENOUGH:
                break
            # What predictions err by is much the same at goals nearby, and the mean of several is less of chance.
            errors.append(math.log(measured / made.time.predicted_kept))
            corrected = float(np.clip(latency.kept / math.exp(float(np.mean(errors))), MIN_KEPT, 1))
            if corrected == goal:
                break
            goal = corrected
        best = min(plans, key=lambda plan: _distance(plan, latency.kept))
        return replace(best, seconds=sum(plan.seconds for plan in plans), warnings=_warnings(best, latency))

    def _times(self, latency: LatencyTarget, setting: Setting) -> LayerTimesRecord:
        """Times of the layers at several widths: those that are stored, else measured now."""
        original = structure_of(self.module)
        spec = layer_times_spec(original, None, setting, bench=_bench_of(latency))
        found = own_store().find_layer_times(spec.key)
        if found:
            return found
        if not _is_here(latency):
            raise SpecError(
                f"This latency is for {latency.backend} {latency.backend_version} on {latency.machine}, of which no "
                f"times of {self.label}'s layers are stored here; run it there, or ask for a latency on this machine."
            )
        parts = np.linspace(1, LEAST_WIDTH, N_WIDTHS + 1)[1:]
        narrower = [
            keep_channels(self.module, self.planner.trace, kept)
            for kept in self.planner.widths_for(parts.tolist(), WIDTHS_SEED)
        ]
        with self._written([self.module, *narrower]) as forms:
            return time_and_store(forms, spec, setting, tell=self.tell)

    def _timed(self, plan: PruningPlan, latency: LatencyTarget, setting: Setting) -> TimeKept:
        """What is predicted of a plan, with what is measured of it in turn with the original."""
        assert plan.time is not None
        pruned = apply_plan(self.module, self.planner.trace, plan)
        record = self._latency(pruned, latency, setting)
        if record is None or record.ratio is None:
            return plan.time
        return replace(
            plan.time,
            measured_ms=record.median_ms,
            measured_kept=record.ratio,
            measured_low=record.ratio_low,
            measured_high=record.ratio_high,
        )

    def _latency(self, pruned: DetectionModel, latency: LatencyTarget, setting: Setting) -> LatencyRecord | None:
        """What was measured of these channel counts, now or earlier; None where it is for another machine."""
        if not _is_here(latency):
            asked = (structure_of(pruned), structure_of(self.module), setting)
            return own_store().find_latency(latency_spec(*asked, bench=_bench_of(latency)).key)
        with self._written([self.module, pruned]) as (reference, subject):
            (record,) = measure([subject], reference, setting, tell=self.tell)
        return record

    @contextmanager
    def _written(self, modules: list[DetectionModel]) -> Iterator[list[Timed]]:
        """Checkpoints under the names of their channel counts; with what is exported of them they are removed again."""
        with tempfile.TemporaryDirectory(prefix="widths-") as name:
            folder = Path(name)
            forms = []
            for index, module in enumerate(modules):
                # Another process may export the same channel counts to the same folder.
                file = folder / f"{folder.name}-{index}.pt"
                write_checkpoint(module, file, {})
                forms.append(self._form(file, structure_of(module)))
            try:
                yield forms
            finally:
                for form in forms:
                    _remove_exports(form)

    def _form(self, file: Path, structure: str) -> Timed:
        return Timed(
            checkpoint=file,
            sha256=structure,
            model=self.label,
            level=None,
            imgsz=longer_side(self.imgsz),
            stride=largest_stride(self.module),
            has_e2e_head=self.head == "e2e",
            record=None,
        )


def _remove_exports(form: Timed) -> None:
    folder = exports_folder(form.sha256)
    for path in folder.glob(f"{form.checkpoint.stem}-*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _bench_of(latency: LatencyTarget) -> Bench:
    return Bench(machine=latency.machine, backend_version=latency.backend_version)


def _is_here(latency: LatencyTarget) -> bool:
    return not why_not_here(latency.backend) and bench_here(latency.backend) == _bench_of(latency)


def _distance(plan: PruningPlan, asked: float) -> float:
    assert plan.time is not None
    kept = plan.time.measured_kept if plan.time.measured_kept is not None else plan.time.predicted_kept
    return abs(kept - asked)


def _warnings(plan: PruningPlan, latency: LatencyTarget) -> tuple[str, ...]:
    """The plan's own, but those of predicted time, which is not what was asked for."""
    assert plan.time is not None
    own = tuple(warning for warning in plan.warnings if "latency" not in warning)
    measured = plan.time.measured_kept
    if measured is None:
        return (*own, f"The latency was predicted and not measured: {latency.machine} is another machine than this.")
    if abs(measured / latency.kept - 1) > NEAR_ENOUGH:
        return (
            *own,
            f"{100 * latency.kept:.1f}% of the latency were to be kept; {100 * measured:.1f}% were measured of the "
            f"nearest cut that was found.",
        )
    return own
