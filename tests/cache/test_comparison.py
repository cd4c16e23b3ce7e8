from __future__ import annotations

import io
from dataclasses import replace

import pandas as pd
import pytest

from cache.comparison import COLUMNS, change_pct, comparison, published_table, to_csv
from cache.published import load_published
from cache.record import Metrics, RunRecord, TimeKept
from compression.spec import LatencyTarget, Target
from compression.wishes import Wish
from tests.cache.samples import make_record, make_spec

# The columns that users' sheets rely on, in their order.
FIXED_HEADER = (
    "model,data,level,provenance,recipe,criterion,seed,epochs,imgsz,head,gflops,gflops_change_pct,gflops_deployed,"
    "params,params_change_pct,params_deployed,map50,map50_change_pct,map50_95,map50_95_change_pct,precision,"
    "precision_change_pct,recall,recall_change_pct"
)


@pytest.fixture
def aiminify() -> RunRecord:
    (record,) = [r for r in load_published() if r.level == 5]
    return record


def _read(csv: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(csv))


def test_the_columns_stand_in_their_order() -> None:
    assert ",".join(comparison([]).columns).startswith(FIXED_HEADER + ",")


def test_a_measured_row_worked_out_by_hand() -> None:
    row = comparison([make_record()]).iloc[0]
    expected = {
        "model": "my-yolo26n",
        "data": "shapes",
        "level": 5,
        "provenance": "measured",
        "recipe": "cosine",
        "criterion": "obs",
        "seed": 3,
        "epochs": 30,
        "imgsz": 320,
        "head": "e2e",
        "gflops": 1.5,
        "gflops_change_pct": -25.0,
        "gflops_deployed": 1.2,
        "params": 760_000,
        "params_change_pct": -24.0,
        "params_deployed": 720_000,
        "map50": 0.81,
        "map50_change_pct": -10.0,
        "map50_95": 0.6,
        "map50_95_change_pct": -25.0,
        "precision": 0.75,
        "precision_change_pct": 0.0,
        "recall": 0.55,
        "recall_change_pct": 10.0,
        "gflops_deployed_change_pct": -25.0,
        "params_deployed_change_pct": -20.0,
        "map50_before_recovery": 0.01235,
        "map50_95_before_recovery": 0.004,
        "map50_no_training": 0.75,
        "map50_no_training_change_pct": -16.67,
        "map50_95_no_training": 0.5,
        "map50_95_no_training_change_pct": -37.5,
        "map50_test": 0.8,
        "map50_95_test": 0.59,
        "allocation": "budget",
        "recovery": "least_squares",
        "calibration_images": 256,
        "steps": 1,
        "align": 8,
        "gflops_kept_target_pct": 78.0,
        "params_kept_target_pct": 75.0,
        "epochs_run": 2,
        "batch": 8,
        "patience_epochs": 10,
        "duration_s": 6.2,
        "architecture": "yolo26n",
        "task": "detect",
        "weights_sha256": "a" * 64,
        "data_fingerprint": "b" * 64,
        "device": "cpu",
        "processor": "2 cores",
        "torch": "2.15.0",
        "commit": "abc123",
        "created": "2026-05-22T10:00:00+00:00",
        "warnings": "The data set is small.",
        "key": make_spec().key,
    }
    assert row[list(expected)].to_dict() == expected
    missing = ["classes", "layers", *LATENCY, "gpu", "ultralytics", "source"]
    assert row.drop(list(expected)).index.tolist() == missing
    assert row[missing].isna().all()


def test_a_latency_stands_beside_what_was_measured_of_it() -> None:
    asked = LatencyTarget(kept=0.7, backend="onnx", machine="m", backend_version="1")
    spec = make_spec(level=None, target=Target(gflops_kept=None, params_kept=None, latency=asked))
    times = {"predicted_ms": 70.0, "predicted_kept": 0.69, "measured_ms": 71.2, "measured_kept": 0.7123}
    row = comparison([make_record(spec, time=TimeKept(**times))]).iloc[0]
    assert row[LATENCY].tolist() == [70.0, "onnx", 71.23]
    assert row[["level", "gflops_kept_target_pct", "params_kept_target_pct"]].isna().all()


LATENCY = ["latency_kept_target_pct", "latency_backend", "latency_kept_pct"]
WAY = [
    "map50_before_recovery",
    "map50_95_before_recovery",
    "map50_no_training",
    "map50_no_training_change_pct",
    "map50_95_no_training",
    "map50_95_no_training_change_pct",
]


def test_where_nothing_was_recovered_the_cut_is_what_training_begins_with() -> None:
    spec = make_spec(criterion="l2", allocation="uniform", recovery="none", calibration_images=0, recipe="standard")
    row = comparison([make_record(spec, metrics_recovered=None, metrics_test=None)]).iloc[0]
    # 0.0123456 of 0.9 and 0.004 of 0.8 are left.
    assert row[WAY].tolist() == [0.01235, 0.004, 0.01235, -98.63, 0.004, -99.5]
    assert row[["map50_test", "map50_95_test"]].isna().all()


def test_several_steps_have_no_accuracy_before_training() -> None:
    record = make_record(make_spec(steps=3), metrics_pruned=None, metrics_recovered=None)
    row = comparison([record]).iloc[0]
    assert row["steps"] == 3
    assert row[WAY].isna().all()


def test_a_result_of_before_these_fields_shows_what_was_done_then() -> None:
    values = make_record(make_spec(criterion="l2", recipe="standard")).to_dict()
    for field in ("allocation", "recovery", "calibration_images", "steps", "classes"):
        del values["spec"][field]
    for field in ("metrics_recovered", "metrics_test"):
        del values[field]
    row = comparison([RunRecord.from_dict(values)]).iloc[0]
    method = ["criterion", "allocation", "recovery", "calibration_images", "steps", "recipe"]
    assert row[method].tolist() == ["l2", "uniform", "none", 0, 1, "standard"]
    assert pd.isna(row["classes"])


def test_kept_classes_are_named_where_the_accuracies_name_them() -> None:
    named = replace(make_record().metrics, per_class={"person": 0.6, "car": 0.5})
    spec = make_spec(classes=(0, 2), data="coco [person, car]")
    rows = comparison([make_record(spec, metrics=named), make_record(spec)])
    assert rows["classes"].tolist() == ["person, car", "0, 2"]
    assert rows["data"].tolist() == ["coco [person, car]"] * 2


def test_numbers_are_rounded() -> None:
    record = make_record(
        costs=replace(make_record().costs, gflops=1.23456),
        metrics=replace(make_record().metrics, map50_95=0.612345678),
    )
    row = comparison([record]).iloc[0]
    assert (row["gflops"], row["gflops_change_pct"]) == (1.235, -38.27)
    assert (row["map50_95"], row["map50_95_change_pct"]) == (0.61235, -23.46)


def test_a_published_row_names_its_training_and_leaves_the_rest_empty(aiminify: RunRecord) -> None:
    row = _read(to_csv([aiminify])).iloc[0]
    assert (row["provenance"], row["recipe"], row["epochs"]) == ("published", "plain", 100)
    assert (row["gflops_change_pct"], row["params_change_pct"], row["map50_95_change_pct"]) == (-22.37, -25.0, -10.08)
    empty = [
        "criterion",
        *WAY,
        "allocation",
        "recovery",
        "steps",
        "classes",
        "seed",
        "gflops_deployed",
        "params_deployed",
        "epochs_run",
        "duration_s",
        "created",
    ]
    assert row[empty].isna().all()


def test_the_original_of_a_compressed_result_is_no_row_of_its_own(aiminify: RunRecord) -> None:
    assert comparison([aiminify])["level"].tolist() == [5]


def test_level_0_has_changed_by_nothing() -> None:
    original = make_record()
    record = make_record(
        level=0,
        costs=original.costs_original,
        metrics=original.metrics_original,
        metrics_pruned=None,
        metrics_recovered=None,
    )
    row = comparison([record]).iloc[0]
    changes = [name for name in COLUMNS if name.endswith("_change_pct") and "no_training" not in name]
    assert len(changes) == 8
    assert row[WAY].isna().all()
    assert (row[changes] == 0).all()


@pytest.mark.parametrize(
    ("original", "value", "percent"),
    [(200.0, 150.0, -25.0), (0.5, 0.6, 20.0), (0.0, 0.0, 0.0), (0.0, 0.1, None), (None, 1.0, None), (1.0, None, None)],
)
def test_change(original: float | None, value: float | None, percent: float | None) -> None:
    change = change_pct(original, value)
    assert change == (None if percent is None else pytest.approx(percent))


def test_a_custom_target_has_no_level_and_says_what_it_kept() -> None:
    spec = make_spec(level=None, target=Target(gflops_kept=0.7, params_kept=None))
    row = _read(to_csv([make_record(spec)])).iloc[0]
    assert row[["level", "params_kept_target_pct"]].isna().all()
    assert row["gflops_kept_target_pct"] == 70


def test_wishes_about_layers_stand_in_a_column() -> None:
    wishes = (Wish(layer="model.0", kept=1), Wish(layer="model.4.cv1", kept=0.5))
    spec = make_spec(target=replace(make_spec().target, layers=wishes))
    table = _read(to_csv([make_record(spec), make_record()]))
    assert table["layers"].fillna("").tolist() == ["model.0 locked, model.4.cv1 keeps 50%", ""]


def test_the_csv_reopens_to_the_same_numbers(aiminify: RunRecord) -> None:
    custom = make_record(make_spec(level=None, classes=(0, 2)), metrics_pruned=None, metrics_recovered=None)
    records = [make_record(), custom, aiminify, *load_published()]
    table, reopened = comparison(records), _read(to_csv(records))
    assert list(reopened.columns) == list(table.columns)
    for name in COLUMNS:
        # Numbers come back as floats, a text column as it was: compare both as plain values, missing as None.
        again = [None if pd.isna(cell) else cell for cell in reopened[name]]
        before = [None if pd.isna(cell) else cell for cell in table[name]]
        assert again == before, name


def test_whole_numbers_stay_whole_beside_empty_cells(aiminify: RunRecord) -> None:
    lines = to_csv([make_record(make_spec(level=None)), aiminify]).decode().split("\n")
    assert lines[1].startswith("my-yolo26n,shapes,,measured,cosine,obs,3,30,320,e2e,1.5,-25.0,1.2,760000,")
    assert ",budget,least_squares,256,1,8,," in lines[1]
    assert lines[2].startswith("yolo26s,coco,5,published,plain,,,100,640,e2e,17.7,-22.37,,7500000,")


def test_the_csv_is_utf8_with_line_feeds() -> None:
    csv = to_csv([make_record(model="modèle", warnings=("Größe: 1, 2",))])
    assert b"\r" not in csv
    assert csv.endswith(b"\n")
    assert _read(csv)[["model", "warnings"]].iloc[0].tolist() == ["modèle", "Größe: 1, 2"]


def test_no_results_give_the_header_alone() -> None:
    assert to_csv([]) == (",".join(COLUMNS) + "\n").encode()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_text_cannot_run_as_a_formula(start: str) -> None:
    hostile = f"{start}HYPERLINK(1)"
    csv = to_csv([make_record(model=hostile, data=hostile, environment={"processor": hostile})])
    row = _read(csv).iloc[0]
    assert row[["model", "data", "processor"]].tolist() == [f"'{hostile}"] * 3
    assert row["gflops_change_pct"] == -25.0


def test_the_published_table(aiminify: RunRecord) -> None:
    table = published_table(aiminify)
    assert table.columns.tolist() == ["Metric", "Original", "Compressed", "Change"]
    assert table.to_numpy().tolist() == [
        ["GFLOPs", "22.8", "17.7", "-22.4%"],
        ["Parameters", "10,000,000", "7,500,000", "-25.0%"],
        ["mAP50", "0.641", "0.590", "-8.0%"],
        ["mAP50-95", "0.476", "0.428", "-10.1%"],
        ["Precision", "0.693", "0.680", "-1.9%"],
        ["Recall", "0.583", "0.538", "-7.7%"],
    ]


def test_the_table_of_a_measured_result_with_a_gap() -> None:
    record = make_record(metrics=Metrics(map50=None, map50_95=0.8, precision=0.75, recall=0.55))
    assert published_table(record).to_numpy().tolist() == [
        ["GFLOPs", "2.00", "1.50", "-25.0%"],
        ["Parameters", "1,000,000", "760,000", "-24.0%"],
        ["mAP50", "0.900", "not measured", "not measured"],
        ["mAP50-95", "0.800", "0.800", "0.0%"],
        ["Precision", "0.750", "0.750", "0.0%"],
        ["Recall", "0.500", "0.550", "+10.0%"],
    ]


def test_the_table_of_a_publication_with_gaps_says_so() -> None:
    table = published_table(load_published()[-1]).set_index("Metric")
    assert list(table.loc["Recall"]) == ["not published"] * 3
    assert table.loc["GFLOPs", "Change"] == "0.0%"


def test_many_lines_and_long_ones_keep_their_order() -> None:
    long = make_record(warnings=("ä" * 2_000_000,))
    table = comparison([*(make_record(key=str(number)) for number in range(3000)), long])
    assert table["key"].tolist() == [*map(str, range(3000)), long.key]
    assert len(table["warnings"].iloc[-1]) == 2_000_000


def test_what_would_end_a_line_or_a_cell_becomes_a_space() -> None:
    table = comparison([make_record(model="a\nb\x1fc\0d\re", warnings=('say "no", twice',), source="NA")])
    assert table[["model", "warnings", "source"]].iloc[0].tolist() == ["a b c d e", 'say "no", twice', "NA"]
