"""The command line: each command is one call of the library. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, get_args

from cache.record import ExecutorName
from compression.cli.bench import add_bench_command
from compression.cli.brought import add_brought_commands
from compression.cli.commands import MEASURED_SIZE, USUAL_SIZE, stdout_for_results, whole_numbers
from compression.cli.compare import add_compare_command
from compression.cli.detections import add_detections_command
from compression.cli.export import add_export_command
from compression.cli.levers import add_levers_command
from compression.cli.queue import add_queue_commands, queue_requests
from compression.cli.report import add_report_command
from compression.cli.results import add_results_commands
from compression.cli.sensitivity import add_sensitivity_command
from compression.errors import SpecError, TrimboardError
from compression.image_size import image_size, in_pixels, square_side
from compression.jobs.local import write_progress
from compression.levels import LEVELS, ORIGINAL, resolve_target
from compression.models.tasks import TASKS, accuracy_names, head_in_words
from compression.pruning.alignment import AUTO, DEFAULT_BACKEND, MEASURED, alignment_for
from compression.request import RunRequest, listed
from compression.spec import (
    ALIGNMENTS,
    DEFAULT_ALIGN,
    DEFAULT_BATCH,
    DEFAULT_CALIBRATION_IMAGES,
    DEFAULT_EPOCHS,
    DEFAULT_PATIENCE,
    DEFAULT_RECIPE,
    DEFAULT_SEED,
    WITHOUT_IMAGES,
    AllocationName,
    BackendName,
    CriterionName,
    CutMethod,
    LatencyTarget,
    RecoveryName,
    Target,
)
from compression.wishes import Wish, in_words, parse_wishes

if TYPE_CHECKING:
    from cache.record import Metrics, PlanRecord, TimeKept

# Torch and Ultralytics are imported inside the commands that need them, so that the others answer at once.

RECIPE_HELP = (
    "cosine: one optimizer step a batch, no warm-up; distill: cosine, taught by the original; "
    "standard: Ultralytics' defaults; plain: no augmentation, as published"
)

BAD_INPUT = 2
INTERRUPTED = 130
ALL_LEVELS = "all"


class _Parser(argparse.ArgumentParser):
    """Argparse that reports a fault in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help.\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0, 2 for an input that cannot be used, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        with stdout_for_results() as results:
            options.command(options, results)
    except TrimboardError as error:
        sys.stderr.write(f"trimboard: {error}\n")
        sys.exit(BAD_INPUT)
    except BrokenPipeError:
        # Whoever read the results has enough; what is left has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        sys.stderr.write(f"trimboard: {error}; check the place, its rights and the free space.\n")
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        sys.stderr.write("trimboard: interrupted; the same command goes on from the last whole epoch.\n")
        sys.exit(INTERRUPTED)


def _models(options: argparse.Namespace, results: TextIO) -> None:
    from compression.catalog import known_models

    rows = [
        {
            "model": f"{known.name}.pt",
            "from_scratch": f"{known.name}.yaml",
            "params": known.params,
            "gflops_640": known.gflops,
            "source": known.source,
        }
        for known in known_models()
    ]
    _write_rows(rows, options.json, results)


def _datasets(options: argparse.Namespace, results: TextIO) -> None:
    from compression.data.dataset import known_datasets

    rows = [
        {
            "data": known.name,
            "task": known.task,
            "classes": known.n_classes,
            "train_images": known.n_train,
            "val_images": known.n_val,
            "size": known.size,
            "source": known.source,
        }
        for known in known_datasets()
    ]
    _write_rows(rows, options.json, results)


def _plan(options: argparse.Namespace, results: TextIO) -> None:
    targets = _targets(options)
    from compression.pruning.cut import plan_all

    plans = plan_all(
        options.model,
        targets,
        imgsz=options.imgsz,
        data=options.data,
        classes=options.classes,
        method=_method(options),
        tell=write_progress,
    )
    if options.json:
        found = [plan.to_dict() for plan in plans]
        json.dump(found if options.level == ALL_LEVELS else found[0], results, indent=1)
        results.write("\n")
        return
    for plan in plans:
        _write_plan(plan, results)


def _prune(options: argparse.Namespace, results: TextIO) -> None:
    level, target = _single_target(options)
    from compression.pruning.cut import prune

    pruned = prune(
        options.model,
        out=options.out,
        level=level,
        target=_custom_target(options),
        layers=_layers(options),
        imgsz=options.imgsz,
        data=options.data,
        method=_method(options),
        seed=options.seed,
        tell=write_progress,
    )
    before, after = pruned.plan.before, pruned.plan.after
    for warning in pruned.plan.warnings:
        sys.stderr.write(f"{warning}\n")
    if options.json:
        found = {
            "out": str(options.out),
            "before": vars(before),
            "after": vars(after),
            "time": asdict(pruned.plan.time) if pruned.plan.time else None,
            "warnings": pruned.plan.warnings,
        }
        json.dump(found, results, indent=1)
        results.write("\n")
        return
    results.write(
        f"{options.out}: {before.gflops:.2f} -> {after.gflops:.2f} GFLOPs, "
        f"{before.params:,} -> {after.params:,} parameters; not yet fine-tuned.\n"
    )
    _write_time(pruned.plan.time, target, results)
    if level != ORIGINAL:
        results.write(_keeps_cut(options.out, options.data))


def _run(options: argparse.Namespace, results: TextIO) -> None:
    level, target = _single_target(options)
    request = _request(
        options,
        level=level,
        target=_custom_target(options),
        layers=_layers(options),
        method=_method(options),
        seed=options.seed,
        again=options.again,
    )
    if options.queue:
        queue_requests([request], options.executor, as_json=options.json, results=results)
        return
    from cache.comparison import published_table
    from compression.pipeline import open_request, run

    outcome = run(open_request(request, tell=write_progress), tell=write_progress)
    record = outcome.record
    for warning in record.warnings:
        sys.stderr.write(f"{warning}\n")
    if options.json:
        checkpoint = str(outcome.checkpoint) if outcome.checkpoint else None
        json.dump({"cached": outcome.cached, "checkpoint": checkpoint, "record": record.to_dict()}, results, indent=1)
        results.write("\n")
        return
    if outcome.cached:
        results.write(f"From the cache, measured {record.created}:\n")
    results.write(f"{published_table(record).to_string(index=False)}\n")
    if record.metrics_pruned:
        recovered = f", {_three(record.metrics_recovered)} after recovery" if record.metrics_recovered else ""
        results.write(
            f"{TASKS[record.task].main} before training: {_three(record.metrics_pruned)} after the cut{recovered}.\n"
        )
    _write_time(record.time, target, results)
    head = head_in_words(record.task, record.head)
    results.write(f"{head}, {record.imgsz} pixels, validation images of {record.data}; training graph.\n")
    results.write(f"Checkpoint: {outcome.checkpoint or 'not on this machine; --again measures anew and keeps it'}\n")
    if outcome.checkpoint and level != ORIGINAL:
        results.write(_keeps_cut(outcome.checkpoint, options.data))


def _keeps_cut(file: Path, data: str | None) -> str:
    """How to train a cut model further: Ultralytics builds what it trains from the yaml, which knows of no cut."""
    named = f"{shlex.quote(str(file))} --data {shlex.quote(data or 'data.yaml')}"
    command = f"trimboard run {named} --keep-gflops 1 --keep-params 1"
    return f"Ultralytics' own training would undo the cut; `{command}` trains it as it is.\n"


def _sweep(options: argparse.Namespace, results: TextIO) -> None:
    criteria: list[str | None] = [*listed(options.criterion)] or [None]
    methods = [_method(argparse.Namespace(**{**vars(options), "criterion": criterion})) for criterion in criteria]
    levels, layers = whole_numbers("levels", options.levels), _layers(options)
    # Of the original nothing is cut, whatever is wished of the levels beside it.
    wishes = {level: layers if level != ORIGINAL else () for level in levels}
    for level in levels:
        resolve_target(level, None, wishes[level])
    requests = [
        _request(options, level=level, target=None, layers=wishes[level], method=method, seed=seed)
        for seed in whole_numbers("seeds", options.seeds)
        for method in methods
        for level in levels
    ]
    queue_requests(requests, options.executor, as_json=options.json, results=results)


def _request(
    options: argparse.Namespace,
    *,
    level: int | None,
    target: Target | None,
    layers: tuple[Wish, ...],
    method: CutMethod | None,
    seed: int,
    again: bool = False,
) -> RunRequest:
    return RunRequest(
        model=options.model,
        data=options.data,
        level=level,
        target=target,
        layers=layers,
        classes=options.classes,
        recipe=options.recipe,
        method=method or CutMethod(),
        steps=options.steps,
        epochs=options.epochs,
        patience=options.patience,
        imgsz=options.imgsz,
        batch=options.batch,
        seed=seed,
        device=options.device,
        head=options.head,
        resources=options.resources,
        again=again,
    )


def _evaluate(options: argparse.Namespace, results: TextIO) -> None:
    from compression.accuracy.evaluation import evaluate
    from compression.data.dataset import open_dataset
    from compression.models.detector import open_detector
    from compression.models.kinds import check_image_size

    detector = open_detector(options.checkpoint)
    if detector.file is None:
        raise SpecError(f"{options.checkpoint!r} has random weights; give a .pt to evaluate.")
    head = detector.choose_head(options.head)
    imgsz = options.imgsz or detector.usual_imgsz
    check_image_size(detector.module, imgsz)
    metrics = evaluate(
        detector.file,
        open_dataset(options.data, detector.task),
        imgsz=imgsz,
        batch=options.batch,
        device=options.device,
        head=head,
    )
    if options.json:
        json.dump(
            {
                "checkpoint": options.checkpoint,
                "task": detector.task,
                "imgsz": imgsz,
                "head": head,
                **asdict(metrics),
            },
            results,
            indent=1,
        )
        results.write("\n")
        return
    names = accuracy_names(detector.task)
    for slot in ("map50", "map50_95", "precision", "recall"):
        if slot in names:
            results.write(f"{names[slot]:10} {getattr(metrics, slot):.3f}\n")
    results.write(f"{head_in_words(detector.task, head)}, {imgsz} pixels\n")


def _three(metrics: Metrics) -> str:
    return "-" if metrics.map50_95 is None else f"{metrics.map50_95:.3f}"


def _method(options: argparse.Namespace) -> CutMethod | None:
    """How to cut, as asked for; None where nothing was asked. The rest is as in a run, or as it can be without data."""
    asked = {field.name: getattr(options, field.name, None) for field in fields(CutMethod)}
    asked["align"] = _align(options)
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked.keys() - {"seed"}:
        return None
    return CutMethod(**{**asdict(CutMethod() if options.data else WITHOUT_IMAGES), **asked})


def _align(options: argparse.Namespace) -> int | None:
    """Steps of channels as asked for; None where nothing was, and no latency on a backend whose steps are known.

    Raises:
        SpecError: they are no number, or nothing was measured of the backend.
    """
    text = getattr(options, "align", None)
    if text is None and getattr(options, "keep_latency", None) is not None and options.backend in MEASURED:
        text = AUTO
    if text is None:
        return None
    if text == AUTO:
        return alignment_for(options.backend)
    try:
        return int(text)
    except ValueError:
        choices = ", ".join(map(str, ALIGNMENTS))
        raise SpecError(f"--align {text!r} is not understood; give one of {choices}, or {AUTO}.") from None


def _targets(options: argparse.Namespace) -> dict[int | None, Target]:
    """Level to what is to be kept, as asked for by --level or by --keep-gflops, --keep-latency and --keep-params, and
    of single layers by --lock and --layer."""
    custom, layers = _custom_target(options), _layers(options)
    nothing = custom is None and options.level is None and not layers
    if nothing or (custom is not None and options.level is not None):
        raise SpecError(
            "Give either --level, or what to keep: --keep-gflops or --keep-latency, --keep-params; or --layer."
        )
    if options.level == ALL_LEVELS:
        return {level: resolve_target(level, None, layers) for level in LEVELS}
    level = _level(options.level)
    return {level: resolve_target(level, custom, layers)}


def _single_target(options: argparse.Namespace) -> tuple[int | None, Target]:
    """Level and what is to be kept, for a command that cuts once.

    Raises:
        SpecError: all levels are asked for, or what `_targets` refuses.
    """
    if options.level == ALL_LEVELS:
        raise SpecError(
            f"--level {ALL_LEVELS} is for `trimboard plan`; choose one of 1 to 5 here, or queue runs of all of them "
            f"with `trimboard sweep --levels 1-5`."
        )
    ((level, target),) = _targets(options).items()
    return level, target


def _level(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        raise SpecError(f"Level {text!r} does not exist; choose 1 to 5, or 0 for the original.") from None


def _custom_target(options: argparse.Namespace) -> Target | None:
    """The costs to keep; None where none are asked for."""
    if all(part is None for part in (options.keep_gflops, options.keep_latency, options.keep_params)):
        return None
    return Target(gflops_kept=options.keep_gflops, params_kept=options.keep_params, latency=_latency_target(options))


def _layers(options: argparse.Namespace) -> tuple[Wish, ...]:
    return parse_wishes(options.lock or (), options.layer or ())


def _latency_target(options: argparse.Namespace) -> LatencyTarget | None:
    if options.keep_latency is None:
        return None
    from compression.pruning.latency_target import latency_target

    return latency_target(options.keep_latency, options.backend, options.threads)


def _write_time(time: TimeKept | None, target: Target, results: TextIO) -> None:
    """What was predicted and what was measured of a latency, where one was asked for."""
    asked = target.latency
    if time is None or asked is None:
        return
    threads = f"{asked.threads} thread{'s' * (asked.threads != 1)}"
    measured = "not measured here"
    if time.measured_ms is not None and time.measured_kept is not None:
        assert time.measured_low is not None
        assert time.measured_high is not None
        measured = (
            f"measured {100 * time.measured_kept:.1f}% ({100 * time.measured_low:.1f} to "
            f"{100 * time.measured_high:.1f}%), {time.measured_ms:.1f} ms"
        )
    results.write(
        f"Latency, {asked.backend} {asked.backend_version}, {threads}: {100 * asked.kept:g}% asked for, predicted "
        f"{100 * time.predicted_kept:.1f}%, {time.predicted_ms:.1f} ms; {measured}.\n"
    )


def _write_plan(plan: PlanRecord, results: TextIO) -> None:
    level = "custom target" if plan.level is None else f"level {plan.level}"
    before, after = plan.before, plan.after
    results.write(f"{plan.model}, {level}, {in_pixels(plan.imgsz)} pixels, {plan.nc} classes\n")
    results.write(f"  channels ranked by {plan.criterion}, cut shared out by {plan.allocation}\n")
    if plan.target.layers:
        results.write(f"  {in_words(plan.target.layers)}\n")
    for name, old, new in (
        ("GFLOPs", before.gflops, after.gflops),
        ("Parameters", before.params, after.params),
        ("GFLOPs, deployed", before.gflops_deployed, after.gflops_deployed),
        ("Parameters, deployed", before.params_deployed, after.params_deployed),
    ):
        assert old is not None
        assert new is not None
        form = "{:,.2f}" if isinstance(old, float) else "{:,}"
        results.write(f"  {name:21}{form.format(old):>12} -> {form.format(new):>12}  {100 * (new / old - 1):+.1f}%\n")
    for layer in plan.layers:
        if layer.channels_after < layer.channels_before:
            results.write(f"  {layer.name:28}{layer.channels_before:5} -> {layer.channels_after:5} channels\n")
    _write_time(plan.time, plan.target, results)
    for warning in plan.warnings:
        results.write(f"  {warning}\n")


def _write_rows(rows: list[dict[str, Any]], as_json: bool, results: TextIO) -> None:
    if as_json:
        json.dump(rows, results, indent=1)
        results.write("\n")
        return
    import pandas as pd

    results.write(f"{pd.DataFrame(rows).to_string(index=False, na_rep='unknown')}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="trimboard", description="How far can a YOLO detector be compressed, and what does it cost?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, command: Callable[[argparse.Namespace, TextIO], None], text: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=text)
        subparser.set_defaults(command=command)
        subparser.add_argument("--json", action="store_true", help="write JSON to stdout, and nothing else there")
        return subparser

    add("models", _models, "List the models that are known by name.")
    add("datasets", _datasets, "List the data sets that are known by name.")

    plan = add("plan", _plan, "Show what a level would cut, exactly, without training.")
    _add_model(plan, any_size=True)
    _add_cut(plan, "0 to 5, or 'all' for 1 to 5")
    plan.add_argument("--data", help="data set whose classes and training images decide")
    _add_classes(plan)
    _add_method(plan)

    prune = add("prune", _prune, "Cut a model and save it, not yet fine-tuned.")
    _add_model(prune, any_size=True)
    _add_cut(prune, "0 to 5")
    prune.add_argument("--out", type=Path, required=True, help="checkpoint to write (.pt)")
    prune.add_argument("--data", help="data set whose training images decide (default: none are looked at)")
    _add_method(prune, recovers=True)
    prune.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of everything random (default: %(default)s)")

    run = add("run", _run, "Prune, fine-tune, measure and keep the result.")
    _add_model(run)
    _add_cut(run, "0 to 5")
    _add_training(run)
    run.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of everything random (default: %(default)s)")
    run.add_argument("--again", action="store_true", help="run even where a result is stored, and replace it")
    run.add_argument("--queue", action="store_true", help="queue it behind other runs, and do not wait for it")
    _add_executor(run)

    sweep = add("sweep", _sweep, "Queue many runs of one model; what is measured or queued already is left out.")
    _add_model(sweep)
    sweep.add_argument("--levels", default="1-5", help="as in 1-5 or 0,3,5 (default: %(default)s)")
    _add_layers(sweep)
    sweep.add_argument("--seeds", default=str(DEFAULT_SEED), help="as in 0,1,2 or 0-2 (default: %(default)s)")
    _add_training(sweep)
    _add_executor(sweep)

    add_brought_commands(add)
    add_bench_command(add)
    add_compare_command(add)
    add_export_command(add)
    add_levers_command(add)
    add_queue_commands(add)
    add_report_command(add)
    add_results_commands(add)
    add_detections_command(add)
    add_sensitivity_command(add)

    evaluate = add("evaluate", _evaluate, "Measure the accuracy of a checkpoint.")
    evaluate.add_argument("checkpoint", metavar="CKPT", help="path of a .pt")
    _add_data(evaluate)
    evaluate.add_argument("--imgsz", type=square_side, help=MEASURED_SIZE)
    return parser


def _add_model(parser: argparse.ArgumentParser, *, any_size: bool = False) -> None:
    parser.add_argument("model", metavar="MODEL", help="yolo26s.pt, yolo26s.yaml, or the path of a .pt or .yaml")
    # A training takes squares only; what is just counted or cut takes any size.
    taken, written = (image_size, "pixels, or H,W") if any_size else (square_side, "pixels")
    parser.add_argument("--imgsz", type=taken, help=f"{written} (default: {USUAL_SIZE})")


def _add_cut(parser: argparse.ArgumentParser, levels: str) -> None:
    parser.add_argument("--level", help=levels)
    parser.add_argument("--keep-gflops", type=float, metavar="F", help="custom target: part of the GFLOPs, 0.2 to 1")
    parser.add_argument(
        "--keep-params", type=float, metavar="F", help="custom target: part of the parameters, 0.2 to 1"
    )
    parser.add_argument(
        "--keep-latency",
        type=float,
        metavar="F",
        help="custom target: part of the time of a forward pass on --backend, measured on this machine, 0.2 to 1",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="of the processor, for --keep-latency (default: %(default)s)"
    )
    _add_layers(parser)


def _add_layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lock",
        action="append",
        metavar="LAYER[,LAYER]",
        help="keep all channels of these layers, called as in the heatmap, and of those coupled with them",
    )
    parser.add_argument(
        "--layer",
        action="append",
        metavar="LAYER=F[,LAYER=F]",
        help="keep this part of a layer's channels, or above 1 so many; alone, nothing else is cut",
    )


def _add_method(parser: argparse.ArgumentParser, *, recovers: bool = False) -> None:
    parser.add_argument("--criterion", help=f"how channels are ranked: {_names(CriterionName)}")
    parser.add_argument("--allocation", help=f"how the cut is shared out among layers: {_names(AllocationName)}")
    if recovers:
        parser.add_argument("--recovery", help=f"what is done before training: {_names(RecoveryName)}")
    parser.add_argument(
        "--align",
        metavar="N",
        help=f"remove channels in steps of up to so many: {', '.join(map(str, ALIGNMENTS))}, or auto, which takes what "
        f"--backend runs fastest (default: {DEFAULT_ALIGN}; auto with --keep-latency)",
    )
    parser.add_argument(
        "--backend",
        choices=get_args(BackendName),
        default=DEFAULT_BACKEND,
        help="what will run the model, for --keep-latency and --align auto (default: %(default)s)",
    )
    parser.add_argument(
        "--calibration-images",
        type=int,
        metavar="N",
        help=f"training images that criterion and recovery look at, at most (default: {DEFAULT_CALIBRATION_IMAGES})",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument("--epochs", type=int, default=DEFAULT_EPOCHS, help="at most so many (default: %(default)s)")
    parser.add_argument(
        "--patience", type=int, default=DEFAULT_PATIENCE, help="stop after so many without gain (default: %(default)s)"
    )
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, help=f"{RECIPE_HELP} (default: %(default)s)")
    _add_method(parser, recovers=True)
    parser.add_argument(
        "--steps", type=int, default=1, help="cut and fine-tune in so many rounds, which share the epochs (default: 1)"
    )
    _add_classes(parser)


def _add_executor(parser: argparse.ArgumentParser) -> None:
    choices = get_args(ExecutorName)
    parser.add_argument("--executor", choices=choices, default=choices[0], help="where queued runs go (default: local)")
    parser.add_argument(
        "--resources",
        default="",
        metavar="LIST",
        help="what a cluster sets aside for each run, as in gpu=2,cpu=8 (default: one GPU, else a node's cores)",
    )


def _add_classes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", default="", help="keep only these: names or indices, as in person,car")


def _names(choices: Any) -> str:
    return ", ".join(get_args(choices))


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="shapes, a known data set, or the path of a data.yaml")
    parser.add_argument("--batch", type=int, default=DEFAULT_BATCH, help="images a step (default: %(default)s)")
    parser.add_argument("--device", default="", help="cpu, 0, 0,1, ... (default: chosen by Ultralytics)")
    parser.add_argument(
        "--head", choices=["e2e", "nms"], help="predictions to measure (default: e2e where there is one)"
    )
