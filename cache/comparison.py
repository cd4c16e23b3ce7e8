"""Results side by side: one row a result, as a table, as CSV and JSON, and as the rows of the published table.

What stands in the columns is told in `cache.summary`, and for readers of the files in docs/comparison.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from cache.judged import BESIDE_COLUMNS, Judged
from cache.record import RunRecord
from cache.summary import COLUMNS as COLUMNS
from cache.summary import SEPARATOR, Cell, rounded, summary_line
from cache.summary import change_pct as change_pct
from compression.models.tasks import accuracy_names

# A spreadsheet runs a cell that begins so as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

# The order of results; custom targets, which have no level, come last.
_ORDER = ("model", "data", "level", "created", "key")
# Arrow's own size of a block, bytes; a longer line needs a larger one. A character takes up to 4.
_BLOCK = 1 << 20
_TYPES = {"str": pa.string(), "Int64": pa.int64(), "float64": pa.float64()}
_SCHEMA = pa.schema([(name, _TYPES[kind]) for name, kind in COLUMNS.items()])


def comparison(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row a result, in the given order, with the columns of `COLUMNS`; missing cells are NA.

    GFLOPs are rounded to 3 decimals, accuracies to 5, percentages to 2.
    """
    return _frame(_table([summary_line(record) for record in records]))


def comparison_of_lines(own: Sequence[str], others: Sequence[str]) -> pd.DataFrame:
    """The same of summaries, by model, data set, level (custom targets last), date and key.

    Args:
        own: lines of `summary_line`.
        others: likewise; left out where one's own has the same key.
    """
    first, second = _table(own), _table(others)
    second = second.filter(pc.invert(pc.is_in(second["key"], value_set=first["key"])))
    table = pa.concat_tables([first, second])
    # A publication without a date is older than all that is measured.
    dated = table.set_column(table.schema.get_field_index("created"), "created", pc.fill_null(table["created"], ""))
    return _frame(table.take(pc.sort_indices(dated, [(name, "ascending") for name in _ORDER])))


def _table(lines: Sequence[str]) -> pa.Table:
    """Lines as columns. Arrow reads them several times as fast as they can be taken apart here."""
    if not lines:
        return _SCHEMA.empty_table()
    text = "\n".join(lines).encode()
    return csv.read_csv(
        pa.BufferReader(text),
        read_options=csv.ReadOptions(column_names=list(COLUMNS), block_size=max(_BLOCK, 4 * max(map(len, lines)) + 1)),
        parse_options=csv.ParseOptions(delimiter=SEPARATOR, quote_char=False),
        convert_options=csv.ConvertOptions(column_types=_SCHEMA, strings_can_be_null=True, null_values=[""]),
    )


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


def to_csv(
    results: Sequence[RunRecord] | pd.DataFrame, beside: Mapping[str, Mapping[str, Cell]] | None = None
) -> bytes:
    """The comparison as UTF-8 CSV with lines that end in a line feed; no text in it can run as a formula.

    Args:
        results: records, or their comparison.
        beside: cells of `cache.judged.BESIDE_COLUMNS` by key of the result; None leaves these columns out.
    """
    table = results.copy() if isinstance(results, pd.DataFrame) else comparison(results)
    columns = dict(COLUMNS)
    if beside is not None:
        table, columns = with_beside(table, beside), columns | BESIDE_COLUMNS
    for name, kind in columns.items():
        if kind == "str":
            table[name] = table[name].map(_harmless, na_action="ignore")
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode()


def document(results: Sequence[RunRecord] | pd.DataFrame, found: Sequence[Judged]) -> dict[str, object]:
    """The comparison as plain data for JSON: a row a result with the columns of the CSV, and the verdicts in words.

    Args:
        results: records, or their comparison.
        found: verdicts and times that stand beside them.
    """
    table = results if isinstance(results, pd.DataFrame) else comparison(results)
    beside = {key: cells for one in found for key, cells in one.beside.items()}
    rows = json.loads(with_beside(table, beside).to_json(orient="records"))
    verdicts = [
        {"model": one.model, "data": one.data, "conditions": one.conditions, **verdict.to_dict()}
        for one in found
        for verdict in one.verdicts
    ]
    return {"results": rows, "verdicts": verdicts}


def with_beside(table: pd.DataFrame, beside: Mapping[str, Mapping[str, Cell]]) -> pd.DataFrame:
    """A comparison with the columns of `cache.judged.BESIDE_COLUMNS` behind its own.

    Args:
        table: of `comparison`.
        beside: cells by key of the result.
    """
    cells = {name: [beside.get(key, {}).get(name) for key in table["key"]] for name in BESIDE_COLUMNS}
    # A column of numbers without any would else be one of objects.
    numbers = {name: kind for name, kind in BESIDE_COLUMNS.items() if kind != "str"}
    return pd.concat([table, pd.DataFrame(cells, index=table.index).astype(numbers)], axis="columns")


def published_table(record: RunRecord) -> pd.DataFrame:
    """The rows of the published table as text: Metric, Original, Compressed, Change.

    GFLOPs and parameters are of the training graph. Missing values read "not measured" or "not published".
    """
    missing = f"not {record.provenance}"
    before, after = record.costs_original, record.costs
    found, kept = record.metrics_original, record.metrics
    rows = [
        ("GFLOPs", _gflops_text(before.gflops), _gflops_text(after.gflops), before.gflops, after.gflops),
        ("Parameters", _count_text(before.params), _count_text(after.params), before.params, after.params),
    ]
    names = accuracy_names(record.task)
    for slot in ("map50", "map50_95", "precision", "recall"):
        if slot in names:
            old, new = getattr(found, slot), getattr(kept, slot)
            rows.append((names[slot], _accuracy_text(old), _accuracy_text(new), old, new))
    table = [
        (name, old_text or missing, new_text or missing, _change_text(change_pct(old, new)) or missing)
        for name, old_text, new_text, old, new in rows
    ]
    return pd.DataFrame(table, columns=["Metric", "Original", "Compressed", "Change"])


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _gflops_text(gflops: float | None) -> str | None:
    """One decimal as in the published table, two for a model so small that one would hide a level's step."""
    return None if gflops is None else f"{gflops:.1f}" if gflops >= 10 else f"{gflops:.2f}"


def _count_text(count: int | None) -> str | None:
    return None if count is None else f"{count:,}"


def _accuracy_text(part: float | None) -> str | None:
    return None if part is None else f"{part:.3f}"


def _change_text(percent: float | None) -> str | None:
    part = rounded(percent, 1)
    return None if part is None else f"{part:+.1f}%" if part else "0.0%"
