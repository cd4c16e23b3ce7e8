"""The study: our default, its ablations and its peers, at eight cuts of one detector.

    python -m benchmarks.study run --model yolo26n.pt --data bccd/data.yaml --imgsz 320 --out cache/shipped/study-bccd
    python -m benchmarks.study table --out cache/shipped/study-bccd --table docs/study-bccd

Each entry is an ordinary run, or for a peer the fine-tuning of the model that the peer left. Its record goes into the
folder `--out`, and an entry whose record is there is not run again, so the study can be stopped and started at any
time; the same command in several terminals shares the work. Choices are made on `val`; the table is of `test`, which is
measured once for each finished run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from filelock import FileLock, Timeout
from ultralytics.nn.tasks import DetectionModel

from benchmarks.peers import fastnas, fastnas_is_installed, narrower, torch_pruning_as_used
from cache.record import Metrics, RunRecord, parse_record
from cache.spread import half_interval
from cache.store import own_store
from compression.accuracy.evaluation import evaluate, evaluate_for
from compression.data.calibration import load_calibration
from compression.data.dataset import Dataset, open_dataset
from compression.errors import DatasetError
from compression.home import home
from compression.jobs.local import write_progress
from compression.levels import LEVELS, target_of
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector
from compression.pipeline import Outcome, compress
from compression.spec import DEFAULT_BATCH, CutMethod, RecipeName, Target

EPOCHS = 30
# As long as the baseline of shared/models was trained.
BASELINE_EPOCHS = 100
SEEDS = (0, 1, 2)
# Cuts that all seeds are run at.
HARD = "40% GFLOPs"
REPEATED = ("level 5", HARD)
STRONG = (*REPEATED, "25% GFLOPs")
# So small that neither peers nor parts of ours differ by more than chance.
MILD = ("level 1", "level 2", "level 3", "level 4")
ORIGINAL_FILE = "original.json"
# The fewest batches that FastNAS takes to re-estimate BatchNorm; more images take it hours on a CPU.
FASTNAS_IMAGES, FASTNAS_BATCH = 100, 2

WHOLE = Target(gflops_kept=1.0, params_kept=1.0)
CUTS: dict[str, dict[str, Any]] = {
    **{f"level {level}": {"level": level} for level in LEVELS},
    **{
        f"{round(100 * kept)}% GFLOPs": {"target": Target(gflops_kept=kept, params_kept=None)}
        for kept in (0.6, 0.4, 0.25)
    },
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to a smaller detector.

    Attributes:
        name: as it stands in the table.
        options: of `compress`.
        cuts: at which it is tried.
        repeated: of these, at which it is run with all seeds.
        peer: of PEERS, which makes the model that is then fine-tuned; empty where `compress` cuts.
        is_ablation: ours with one part exchanged.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    cuts: tuple[str, ...] = tuple(CUTS)
    repeated: tuple[str, ...] = ()
    peer: str = ""
    is_ablation: bool = False


def _cut_by(**method: Any) -> dict[str, Any]:
    return {"method": CutMethod(**method)}


def _fine_tuned_by(recipe: RecipeName) -> dict[str, Any]:
    return {"recipe": recipe}


def _ablation(name: str, options: dict[str, Any]) -> Variant:
    """At both repeated cuts, with all seeds where a difference is larger than chance."""
    return Variant(name=name, options=options, cuts=REPEATED, repeated=(HARD,), is_ablation=True)


def _method_ablation(name: str, options: dict[str, Any]) -> Variant:
    """One of many: where they differ, with one seed."""
    return Variant(name=name, options=options, cuts=(HARD,), is_ablation=True)


TORCH_PRUNING, ANY_COUNT, NARROWER, FASTNAS = "torch-pruning", "torch-pruning-any-count", "narrower", "fastnas"

UNCUT = "uncut"
OURS, ORIGINAL, ORIGINAL_TUNED = "ours", "original", "original, fine-tuned"
# From scratch as long as the baseline and the fine-tuning together.
FROM_SCRATCH = {"epochs": BASELINE_EPOCHS + EPOCHS}
RANDOM = _cut_by(criterion="random", allocation="uniform", recovery="none")

VARIANTS = (
    Variant(name=OURS, repeated=REPEATED),
    Variant(name="ours, no training", options={"epochs": 0}, repeated=REPEATED),
    Variant(name=ORIGINAL_TUNED, cuts=(UNCUT,), repeated=(UNCUT,)),
    Variant(
        name="torch-pruning, stock fine-tuning",
        options=_fine_tuned_by("standard"),
        peer=TORCH_PRUNING,
        repeated=REPEATED,
    ),
    Variant(name="torch-pruning, our recipe", peer=TORCH_PRUNING, repeated=REPEATED),
    Variant(
        name="torch-pruning, any count, stock fine-tuning",
        options=_fine_tuned_by("standard"),
        cuts=REPEATED,
        peer=ANY_COUNT,
    ),
    Variant(name="torch-pruning, any count, our recipe", cuts=REPEATED, peer=ANY_COUNT),
    Variant(name="random channels, our recipe", options=RANDOM, repeated=REPEATED),
    Variant(name="random channels, stock fine-tuning", options=RANDOM | _fine_tuned_by("standard")),
    Variant(name="narrower, from scratch, our recipe", options=FROM_SCRATCH, peer=NARROWER),
    Variant(
        name="narrower, from scratch, stock training", options=FROM_SCRATCH | _fine_tuned_by("standard"), peer=NARROWER
    ),
    Variant(name="FastNAS, stock fine-tuning", options=_fine_tuned_by("standard"), cuts=STRONG, peer=FASTNAS),
    Variant(name="FastNAS, our recipe", cuts=STRONG, peer=FASTNAS),
    _ablation("ours, without recovery", _cut_by(recovery="none")),
    _ablation("ours, distilled", _fine_tuned_by("distill")),
    _ablation("ours, stock fine-tuning", _fine_tuned_by("standard")),
    _ablation("ours, in 3 steps", {"steps": 3}),
    _method_ablation("ours, BatchNorm re-estimated instead", _cut_by(recovery="batchnorm")),
    *(
        _method_ablation(f"allocation {allocation}", _cut_by(allocation=allocation))
        for allocation in ("uniform", "global", "isomorphic")
    ),
    *(
        _method_ablation(f"criterion {criterion}", _cut_by(criterion=criterion))
        for criterion in ("l1", "l2", "bn_scale", "lamp", "taylor", "fisher", "random")
    ),
    *(
        _method_ablation(
            f"criterion {criterion}, allocation uniform", _cut_by(criterion=criterion, allocation="uniform")
        )
        for criterion in ("l1", "l2", "bn_scale", "lamp", "taylor", "fisher")
    ),
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run of the study."""

    variant: Variant
    cut: str
    seed: int

    @property
    def file_name(self) -> str:
        """Of its record."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.variant.name} {self.cut} seed {self.seed}".lower()) + ".json"


def entries() -> list[Entry]:
    """All runs, those first that decide most: ours and what they count against, the peers, ablations, mild cuts."""
    every = [
        Entry(variant=variant, cut=cut, seed=seed)
        for seed in SEEDS
        for variant in VARIANTS
        for cut in variant.cuts
        if seed == SEEDS[0] or cut in variant.repeated
    ]

    def rank(entry: Entry) -> int:
        if entry.seed == SEEDS[0] and entry.variant.name in (OURS, ORIGINAL_TUNED):
            return 0
        if entry.cut in MILD:
            return 4
        if entry.variant.is_ablation:
            return 3
        # These take several times as long as all others.
        return 2 if entry.variant.peer in (NARROWER, FASTNAS) else 1

    return sorted(every, key=rank)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What all runs have in common."""

    model: str
    data: str
    imgsz: int
    device: str

    def run(self, entry: Entry) -> RunRecord:
        """One run, measured on the test images too; from the cache where it was measured before."""
        model, options = (
            self.model,
            {"epochs": EPOCHS, **CUTS.get(entry.cut, {"target": WHOLE}), **entry.variant.options},
        )
        if entry.variant.peer:
            model, options = str(self._peer(entry)), {**options, "level": None, "target": WHOLE}
        return self._tested(
            compress(
                model,
                self.data,
                imgsz=self.imgsz,
                seed=entry.seed,
                device=self.device,
                tell=write_progress,
                **options,
            )
        )

    def original(self) -> RunRecord:
        """The original as it is."""
        outcome = compress(self.model, self.data, level=0, imgsz=self.imgsz, device=self.device)
        # A result that came with the program has no checkpoint; the model's own file is as good.
        return self._tested(replace(outcome, checkpoint=open_detector(self.model).file))

    def _peer(self, entry: Entry) -> Path:
        """The model that a peer leaves, made once: a second making would have another hash."""
        cut = CUTS[entry.cut]
        target = cut.get("target") or target_of(cut["level"])
        assert target.gflops_kept
        detector = open_detector(self.model)
        name = f"{detector.label}-{entry.variant.peer}-{round(1000 * target.gflops_kept)}-{self.imgsz}-{entry.seed}.pt"
        file = home() / "study" / name
        with FileLock(_lock_of(name)):
            if not file.is_file():
                made = self._peer_model(entry.variant.peer, detector.module, target.gflops_kept, entry.seed)
                write_checkpoint(made, file, {})
        return file

    def _peer_model(self, peer: str, module: DetectionModel, kept: float, seed: int) -> DetectionModel:
        if peer == NARROWER:
            return narrower(module, self.imgsz, kept, seed)
        if peer != FASTNAS:
            return torch_pruning_as_used(module, self.imgsz, kept, round_to=None if peer == ANY_COUNT else 8)
        dataset = open_dataset(self.data)
        draft = home() / "study" / f"candidate-{os.getpid()}.pt"

        def score(candidate: DetectionModel) -> float:
            write_checkpoint(candidate, draft, {})
            return _map(evaluate(draft, dataset, imgsz=self.imgsz, batch=DEFAULT_BATCH, device=self.device))

        images = load_calibration(dataset, imgsz=self.imgsz, n_images=FASTNAS_IMAGES, seed=seed)
        starts = range(0, len(images.samples), FASTNAS_BATCH)
        batches = [images.batch(start, start + FASTNAS_BATCH, torch.device("cpu"))["img"] for start in starts]
        return fastnas(
            module, self.imgsz, kept, score=score, batches=batches, sensitivity=home() / "study" / "fastnas.pth"
        )

    def _tested(self, outcome: Outcome) -> RunRecord:
        record = outcome.record
        if record.metrics_test is None and outcome.checkpoint is not None:
            assert record.spec is not None
            record = replace(record, metrics_test=evaluate_for(record.spec, outcome.checkpoint, self._test_images()))
            own_store().save(record)
        return record

    def _test_images(self) -> Dataset:
        """The data set with its test images in the place of those that choose."""
        file = open_dataset(self.data).yaml_file
        content = yaml.safe_load(file.read_text())
        if not content.get("test"):
            raise DatasetError(f"{file} has no `test`; the study needs images that chose nothing.")
        content["path"] = str((file.parent / content.get("path", "")).resolve())
        view = home() / "study" / f"{file.parent.name}-test.yaml"
        view.parent.mkdir(parents=True, exist_ok=True)
        view.write_text(yaml.safe_dump({**content, "val": content["test"]}))
        return open_dataset(str(view))


def run(study: Study, out: Path, only: str) -> None:
    """Run what has no record in `out` yet and is not at work, of the records whose name begins with `only`."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / ORIGINAL_FILE).is_file():
        _write(out / ORIGINAL_FILE, study.original())
    for entry in entries():
        if not entry.file_name.startswith(only):
            continue
        if entry.variant.peer == FASTNAS and not fastnas_is_installed():
            print(f"{entry.file_name}: left out, Model Optimizer is not installed", flush=True)
            continue
        with suppress(Timeout), FileLock(_lock_of(entry.file_name), timeout=0):
            _run_once(study, entry, out / entry.file_name)


def _run_once(study: Study, entry: Entry, file: Path) -> None:
    if not file.is_file():
        record = study.run(entry)
        _write(file, record)
        print(f"{file.name}: {_map(record.metrics)} on val, {_map(record.metrics_test)} on test", flush=True)


def _lock_of(name: str) -> Path:
    """Held by the process that is about to make a file."""
    folder = home() / "study"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"


def _write(file: Path, record: RunRecord) -> None:
    """Write a record as it is shipped: no paths of this machine, and no checkpoint."""
    assert record.spec is not None
    shipped = replace(record, spec=record.spec.without_places(), artifacts=())
    file.write_text(json.dumps(shipped.to_dict()) + "\n")


def _map(metrics: Metrics | None) -> float:
    assert metrics is not None
    assert metrics.map50_95 is not None
    return metrics.map50_95


def table(out: Path) -> pd.DataFrame:
    """One row for each variant and cut: means over the seeds, and what is kept of the reference.

    The reference is the better of the original and the original fine-tuned as ours are.
    """
    original = _read(out / ORIGINAL_FILE)
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for entry in entries():
        if (out / entry.file_name).is_file():
            groups.setdefault((entry.variant.name, entry.cut), []).append(_read(out / entry.file_name))
    tuned = groups.get((ORIGINAL_TUNED, UNCUT), [])
    reference = max([_map(original.metrics_test), *([_mean([_map(r.metrics_test) for r in tuned])] if tuned else [])])
    rows = [_row(ORIGINAL, UNCUT, [original], original, reference)]
    rows += [_row(variant, cut, records, original, reference) for (variant, cut), records in groups.items()]
    return pd.DataFrame(rows)


def _row(
    variant: str, cut: str, records: list[RunRecord], original: RunRecord, reference: float
) -> dict[str, str | float | int | None]:
    test = [_map(record.metrics_test) for record in records]
    recovered = [_map(record.metrics_recovered) for record in records if record.metrics_recovered]
    costs, whole = records[0].costs, original.costs
    return {
        "variant": variant,
        "cut": cut,
        "seeds": len(records),
        "gflops_kept": _part(costs.gflops, whole.gflops),
        "gflops_deployed_kept": _part(costs.gflops_deployed, whole.gflops_deployed),
        "params_kept": _part(costs.params, whole.params),
        "map50_95_val_before_training": _mean(recovered) if recovered else None,
        "map50_95_val": _mean([_map(record.metrics) for record in records]),
        "map50_95_test": _mean(test),
        "interval": half_interval(test),
        "part_of_reference": _mean(test) / reference,
    }


def _part(cost: float | None, whole: float | None) -> float:
    assert cost
    assert whole
    return cost / whole


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _read(file: Path) -> RunRecord:
    return parse_record(file.read_text())


def _markdown(rows: pd.DataFrame) -> str:
    """The table as Markdown, with the digits that mean something."""
    lines = [
        "| Variant | Cut | Seeds | GFLOPs | Parameters | val, before training | val | test | Of the reference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.to_dict("records"):
        interval = "" if pd.isna(row["interval"]) else f" ± {row['interval']:.3f}"
        before = "" if pd.isna(row["map50_95_val_before_training"]) else f"{row['map50_95_val_before_training']:.3f}"
        cells = (
            row["variant"],
            row["cut"],
            str(row["seeds"]),
            f"{100 * row['gflops_kept']:.1f}%",
            f"{100 * row['params_kept']:.1f}%",
            before,
            f"{row['map50_95_val']:.3f}",
            f"{row['map50_95_test']:.3f}{interval}",
            f"{100 * row['part_of_reference']:.1f}%",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--model", help="checkpoint of the original")
    parser.add_argument("--data", help="data set with train, val and test")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--device", default="")
    parser.add_argument("--only", default="", help="entries whose record's name begins so")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    parser.add_argument("--table", type=Path, help="where the table goes, without suffix")
    arguments = parser.parse_args()
    if arguments.what == "run":
        if not arguments.model or not arguments.data:
            parser.error("run needs --model and --data")
        study = Study(model=arguments.model, data=arguments.data, imgsz=arguments.imgsz, device=arguments.device)
        run(study, arguments.out, arguments.only)
        return
    if arguments.table is None:
        parser.error("table needs --table")
    rows = table(arguments.out)
    arguments.table.with_suffix(".csv").write_text(rows.to_csv(index=False, float_format="%.5f"))
    arguments.table.with_suffix(".md").write_text(_markdown(rows))


if __name__ == "__main__":
    main()
