"""Results, plans and runs, of one user in a SQLite file or of a team in PostgreSQL, with several processes at once.

Each write is one transaction, so a reader sees a result whole or not at all. Results that come with the program,
measured and published, are read beside it; one's own wins over a shipped one of the same key.

There are several ways to read results: `overview` for what there is, `table` for many side by side, `heads` for some
without layers and curves, and `records` and `find` for whole ones. All but the last two are fast with 10,000 results.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, insert, select

from cache.accuracy import AccuracyRecord, parse_accuracy
from cache.artifacts import PLACE_VARIABLE, shared_place
from cache.database import Database
from cache.engine import ADDRESS_VARIABLE, own_address
from cache.latency import LatencyRecord, parse_latency
from cache.layer_times import LayerTimesRecord, parse_layer_times
from cache.published import load_published
from cache.queue import RunQueue
from cache.record import CHECKPOINT, Artifact, PlanRecord, Provenance, RecordError, RunRecord, parse_plan, parse_record
from cache.sensitivity import SensitivityRecord, parse_sensitivity
from cache.shipped import SHIPPED, load_shipped, load_shipped_sensitivities
from cache.summary import head_json, head_of, summary_line
from cache.tables import (
    accuracies_table,
    latencies_table,
    layer_times_table,
    plans_table,
    records_table,
    sensitivities_table,
    summaries_table,
)
from compression.catalog import model_label
from compression.home import home, run_folder
from compression.image_size import ImageSize

if TYPE_CHECKING:
    import pandas as pd

    from compression.graph.cost_sheet import CostSheet

Merged = Literal["added", "same", "conflict", "replaced"]
Measured = TypeVar("Measured", LatencyRecord, AccuracyRecord, LayerTimesRecord, SensitivityRecord)
Planned = TypeVar("Planned")

# Folder in a run's for the file of a stored result whose successor is about to be stored.
_REPLACED = ".replaced"

# So many results are in memory at once.
BATCH = 200

# Raised when the planner makes other plans of the same cut; kept ones are then made anew.
PLAN_VERSION = 2


@dataclass(frozen=True)
class Known:
    """Results that differ in their conditions and seeds only.

    Attributes:
        model: label.
        data: name of the data set.
        architecture: catalog name, or the label where unknown.
        provenance: measured or published.
        level: 0 to 5; None of custom targets.
        newest: when the latest of them was measured, ISO 8601; empty where a publication does not say.
    """

    model: str
    data: str
    architecture: str
    provenance: Provenance
    level: int | None
    newest: str


def known_of(record: RunRecord) -> Known:
    """What a single result adds to the overview."""
    return Known(
        model=record.model,
        data=record.data,
        architecture=record.architecture,
        provenance=record.provenance,
        level=record.level,
        newest=record.created,
    )


def plan_key(
    model: str,
    weights_sha256: str | None,
    nc: int,
    imgsz: ImageSize,
    level: int,
    kpt_shape: tuple[int, int] | None = None,
) -> str:
    """Sha256 of everything that decides a plan; equal for two paths of the same weights.

    Args:
        model: catalog name, .yaml, or the path of a .pt.
        weights_sha256: hash of the weights; None for random weights.
        nc: number of classes the model predicts.
        imgsz: size of the input.
        level: 0 to 5.
        kpt_shape: key points that the data set asks for; None for the model's own. Keys without any are as before.
    """
    decisive = {
        "version": PLAN_VERSION,
        "model": None if weights_sha256 else model_label(model),
        "weights_sha256": weights_sha256,
        "nc": nc,
        "imgsz": imgsz,
        "level": level,
    }
    return _planned_key(decisive, kpt_shape)


def sheet_key(
    model: str, weights_sha256: str | None, nc: int, imgsz: ImageSize, kpt_shape: tuple[int, int] | None = None
) -> str:
    """Sha256 of everything that decides a cost sheet; the same as of `plan_key`, but for the level."""
    decisive = {
        "sheet of": None if weights_sha256 else model_label(model),
        "weights_sha256": weights_sha256,
        "nc": nc,
        "imgsz": imgsz,
    }
    return _planned_key(decisive, kpt_shape)


def _planned_key(decisive: dict[str, Any], kpt_shape: tuple[int, int] | None) -> str:
    if kpt_shape is not None:
        decisive = {**decisive, "kpt_shape": kpt_shape}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Store:
    """Results, plans and runs of one user, or of a team.

    Attributes:
        queue: the runs.
    """

    def __init__(self, url: str | None = None, *, shipped: Path = SHIPPED) -> None:
        """Open the database, and create it on first use.

        Args:
            url: SQLAlchemy's address of a SQLite or PostgreSQL database; by default what the environment variable
                TRIMBOARD_DB says, else `trimboard.db` in the data folder.
            shipped: folder of the results that come with the program.

        Raises:
            StoreError: the database is not ours or of a newer program, cannot be reached or written, or
                TRIMBOARD_ARTIFACTS names no place that can be used.
        """
        self._shipped = load_shipped(shipped)
        self._sensitivities = load_shipped_sensitivities(shipped / "sensitivities")
        self._published = {record.key: record for record in load_published(shipped / "published")}
        self._place = shared_place()
        self._database = Database(url or own_address())
        self.queue = RunQueue(self._database)

    def close(self) -> None:
        """Close the connections; the store opens them again when it is used."""
        self._database.close()

    def save(self, record: RunRecord, *, draft: Path | None = None) -> None:
        """Add a result, in place of an earlier one of the same key.

        Its files, which lie in its run folder, are brought to the shared place first, where there is one.

        Args:
            record: the result.
            draft: its checkpoint, where that lies under another name in the run folder; it is moved to its own.
                Whatever cuts this short, the result that is stored, the earlier one or this, has its file.

        Raises:
            StoreError: the database or the shared place cannot be written.
            RecordError: a figure of the record is no number.
        """
        for artifact in record.artifacts:
            is_draft = draft is not None and artifact.name == CHECKPOINT
            file = draft if draft and is_draft else run_folder(record.key) / Path(artifact.file).name
            if _has_size(file, artifact.size_bytes):
                self.share_file(artifact, file)
        if draft:
            self._set_aside(record.key)
            name = next(artifact.file for artifact in record.artifacts if artifact.name == CHECKPOINT)
            draft.replace(run_folder(record.key) / Path(name).name)
        with self._database.writing() as connection:
            _write(connection, record)
        if draft:
            shutil.rmtree(run_folder(record.key) / _REPLACED, ignore_errors=True)

    def _set_aside(self, key: str) -> None:
        """Move the checkpoint of the stored result to where `artifact_path` finds it by its hash."""
        earlier = self.find(key)
        for artifact in earlier.artifacts if earlier else ():
            file, aside = run_folder(key) / Path(artifact.file).name, _aside(key, artifact)
            # Where it was set aside before, what lies under its name is of a result that was never stored.
            if artifact.name == CHECKPOINT and not aside.is_file() and _has_size(file, artifact.size_bytes):
                aside.parent.mkdir(parents=True, exist_ok=True)
                file.replace(aside)

    @property
    def shares_files(self) -> bool:
        """Whether there is a shared place that files of results can be fetched from."""
        return self._place is not None

    def share_file(self, artifact: Artifact, file: Path) -> None:
        """Bring a file of a result to the shared place, where there is one.

        Raises:
            StoreError: the shared place cannot be written.
        """
        if self._place:
            self._place.put(artifact, file)

    def merge(
        self, records: Iterable[RunRecord], *, replace: bool, settle: Callable[[dict[str, Merged]], None]
    ) -> dict[str, Merged]:
        """Add results of another store, all or none.

        Args:
            records: measured results, each key once.
            replace: take them where there are others of the same keys.
            settle: called with the outcome before it takes effect; where it raises, nothing does.

        Returns:
            What became of each key; a "conflict" left what was here.

        Raises:
            StoreError: the database cannot be written.
            RecordError: a figure of a record is no number.
        """
        outcome: dict[str, Merged] = {}
        coming = iter(records)
        with self._database.writing() as connection:
            while batch := list(islice(coming, BATCH)):
                here = self._found(connection, [record.key for record in batch])
                for record in batch:
                    outcome[record.key] = _compared(here.get(record.key), record, replace)
                    if outcome[record.key] in ("added", "replaced"):
                        _write(connection, record)
            settle(outcome)
        return outcome

    def _found(self, connection: Connection, keys: Sequence[str]) -> dict[str, RunRecord]:
        """The results of those keys, one's own first."""
        found = {key: item.record for key, item in self._shipped.by_key.items() if key in keys}
        own = connection.scalars(select(records_table.c.payload).where(records_table.c.key.in_(keys)))
        return found | {record.key: record for record in map(_readable_record, own) if record}

    def find(self, key: str) -> RunRecord | None:
        """The result of that key, one's own first; None where there is none that can be read.

        Raises:
            StoreError: the database cannot be read.
        """
        with self._database.reading() as connection:
            payload = connection.scalar(select(records_table.c.payload).where(records_table.c.key == key))
        own = _readable_record(payload) if payload is not None else None
        if own:
            return own
        shipped = self._shipped.by_key.get(key)
        return shipped.record if shipped else self._published.get(key)

    def records(self, model: str | None = None, data: str | None = None) -> list[RunRecord]:
        """One's own, shipped and published results, by model, data set, level (custom targets last) and date.

        Args:
            model: only of this label.
            data: only on this data set.

        Raises:
            StoreError: the database cannot be read.
        """
        query = _chosen(select(records_table.c.payload), records_table, model, data)
        with self._database.reading() as connection:
            own = [record for record in map(_readable_record, connection.scalars(query)) if record]
        return self._in_order(own, self._others.values(), model, data)

    def own_keys(self, model: str | None = None, data: str | None = None) -> list[str]:
        """The keys of all that did not come with the program, in no order.

        Raises:
            StoreError: the database cannot be read.
        """
        query = _chosen(select(summaries_table.c.key), summaries_table, model, data)
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def overview(self) -> list[Known]:
        """What is known of which model on which data set, in no order.

        Raises:
            StoreError: the database cannot be read.
        """
        columns = [summaries_table.c[name] for name in ("model", "data", "architecture", "provenance", "level")]
        query = select(*columns, func.max(summaries_table.c.created).label("newest")).group_by(*columns)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            replaced = summaries_table.c.key.in_(list(self._others))
            own = set(connection.scalars(select(summaries_table.c.key).where(replaced)))
        others = [record for key, record in self._others.items() if key not in own]
        newest = {(row.model, row.data, row.architecture, row.provenance, row.level): row.newest for row in rows}
        for record in others:
            kind = (record.model, record.data, record.architecture, record.provenance, record.level)
            newest[kind] = max(record.created, newest.get(kind, ""))
        return [Known(*kind, created) for kind, created in newest.items()]

    def revision(self, data: str | None = None) -> str:
        """A text that changes whenever a result of one's own is added or replaced.

        Args:
            data: only results on this data set count.

        Raises:
            StoreError: the database cannot be read.
        """
        columns = (summaries_table.c.key, summaries_table.c.created)
        query = _chosen(select(*columns), summaries_table, None, data).order_by(summaries_table.c.key)
        digest = hashlib.sha256()
        with self._database.reading() as connection:
            for key, created in connection.execute(query):
                digest.update(f"{key} {created}\n".encode())
        return digest.hexdigest()

    def heads(self, model: str | None = None, data: str | None = None) -> list[RunRecord]:
        """The same as `records`, but each without its layers and its curve: ten times as fast to read.

        Raises:
            StoreError: the database cannot be read.
        """
        query = _chosen(select(records_table.c.head), records_table, model, data)
        with self._database.reading() as connection:
            texts = connection.scalars(query.where(records_table.c.head.is_not(None))).all()
        own = [record for record in map(_readable_record, texts) if record]
        return self._in_order(own, map(head_of, self._others.values()), model, data)

    def table(self, model: str | None = None, data: str | None = None) -> pd.DataFrame:
        """The comparison of the same results in the same order, see `cache.comparison`; 10,000 take some 50 ms.

        Args:
            model: only of this label.
            data: only on this data set.

        Raises:
            StoreError: the database cannot be read.
        """
        from cache.comparison import comparison_of_lines

        query = _chosen(select(summaries_table.c.line), summaries_table, model, data)
        with self._database.reading() as connection:
            # Past SQLAlchemy's rows, which take several times as long as the texts themselves.
            cursor = connection.execute(query).cursor
            own = [line for (line,) in cursor.fetchall()] if cursor else []
        others = [line for record, line in self._other_lines if _is_chosen(record, model, data)]
        return comparison_of_lines(own, others)

    @cached_property
    def _others(self) -> dict[str, RunRecord]:
        """What comes with the program."""
        return self._published | {key: item.record for key, item in self._shipped.by_key.items()}

    @cached_property
    def _other_lines(self) -> list[tuple[RunRecord, str]]:
        return [(record, summary_line(record)) for record in self._others.values()]

    def _in_order(
        self, own: Sequence[RunRecord], others: Iterable[RunRecord], model: str | None, data: str | None
    ) -> list[RunRecord]:
        by_key = {record.key: record for record in others if _is_chosen(record, model, data)}
        by_key |= {record.key: record for record in own}
        return sorted(by_key.values(), key=lambda r: (r.model, r.data, r.level is None, r.level or 0, r.created, r.key))

    def unreadable(self) -> int:
        """How many stored results and runs, one's own or shipped, are of another version or damaged, and not shown.

        A result is looked at when it is written and when a database is migrated, not each time that it is counted.

        Raises:
            StoreError: the database cannot be read.
        """
        with self._database.reading() as connection:
            n_records = connection.scalar(select(func.count()).select_from(records_table)) or 0
            n_readable = connection.scalar(select(func.count()).select_from(summaries_table)) or 0
        return n_records - n_readable + self.queue.n_unreadable() + len(self._shipped.unreadable)

    def save_plan(self, key: str, plan: PlanRecord) -> None:
        """Add a plan, in place of an earlier one of the same `plan_key`.

        Raises:
            StoreError: the database cannot be written.
        """
        self._save_planned(key, json.dumps(plan.to_dict()))

    def save_sheet(self, key: str, sheet: CostSheet) -> None:
        """Add a cost sheet, in place of an earlier one of the same `sheet_key`.

        Raises:
            StoreError: the database cannot be written.
        """
        self._save_planned(key, json.dumps(sheet.to_dict()))

    def _save_planned(self, key: str, payload: str) -> None:
        with self._database.writing() as connection:
            connection.execute(delete(plans_table).where(plans_table.c.key == key))
            connection.execute(insert(plans_table).values(key=key, payload=payload))

    def find_plan(self, key: str) -> PlanRecord | None:
        """The plan of that `plan_key`; None where it has to be computed, also in place of one of another version.

        Raises:
            StoreError: the database cannot be read.
        """
        return self._planned(key, parse_plan)

    def find_sheet(self, key: str) -> CostSheet | None:
        """The cost sheet of that `sheet_key`; None where it has to be counted, also in place of another version's.

        Raises:
            StoreError: the database cannot be read.
        """
        # Numpy is not needed for anything else here.
        from compression.graph.cost_sheet import parse_sheet

        return self._planned(key, parse_sheet)

    def _planned(self, key: str, parse: Callable[[str], Planned]) -> Planned | None:
        with self._database.reading() as connection:
            payload = connection.scalar(select(plans_table.c.payload).where(plans_table.c.key == key))
        try:
            return parse(payload) if payload is not None else None
        except RecordError:
            return None

    def save_latency(self, record: LatencyRecord) -> None:
        """Add a measured latency, in place of an earlier one of the same question.

        Raises:
            StoreError: the database cannot be written.
        """
        self._save_measured(latencies_table, record, weights_sha256=record.spec.weights_sha256)

    def find_latency(self, key: str) -> LatencyRecord | None:
        """The latency of that key; None where it has to be measured, also in place of one of another version.

        Raises:
            StoreError: the database cannot be read.
        """
        return next(self._measured(latencies_table, parse_latency, latencies_table.c.key == key), None)

    def latencies(self, weights: Collection[str]) -> list[LatencyRecord]:
        """What was measured of the checkpoints of those hashes, newest first.

        Raises:
            StoreError: the database cannot be read.
        """
        return list(self._measured(latencies_table, parse_latency, latencies_table.c.weights_sha256.in_(weights)))

    def save_accuracy(self, record: AccuracyRecord) -> None:
        """Add the measured accuracy of a deployed form, in place of an earlier one of the same question.

        Raises:
            StoreError: the database cannot be written.
        """
        self._save_measured(accuracies_table, record, weights_sha256=record.spec.weights_sha256)

    def find_accuracy(self, key: str) -> AccuracyRecord | None:
        """The accuracy of that key; None where it has to be measured, also in place of one of another version.

        Raises:
            StoreError: the database cannot be read.
        """
        return next(self._measured(accuracies_table, parse_accuracy, accuracies_table.c.key == key), None)

    def accuracies(self, weights: Collection[str]) -> list[AccuracyRecord]:
        """What was measured of the deployed forms of the checkpoints of those hashes, newest first.

        Raises:
            StoreError: the database cannot be read.
        """
        return list(self._measured(accuracies_table, parse_accuracy, accuracies_table.c.weights_sha256.in_(weights)))

    def save_layer_times(self, record: LayerTimesRecord) -> None:
        """Add measured times of layers, in place of earlier ones of the same question.

        Raises:
            StoreError: the database cannot be written.
        """
        self._save_measured(layer_times_table, record, subject=record.spec.subject)

    def find_layer_times(self, key: str) -> LayerTimesRecord | None:
        """The times of layers of that key; None where they have to be measured, also in place of another version's.

        Raises:
            StoreError: the database cannot be read.
        """
        return next(self._measured(layer_times_table, parse_layer_times, layer_times_table.c.key == key), None)

    def layer_times(self, subject: str) -> list[LayerTimesRecord]:
        """What was measured of the layers of one checkpoint, by its sha256, newest first.

        Raises:
            StoreError: the database cannot be read.
        """
        return list(self._measured(layer_times_table, parse_layer_times, layer_times_table.c.subject == subject))

    def save_sensitivity(self, record: SensitivityRecord) -> None:
        """Add measured sensitivities of layers, in place of earlier ones of the same question.

        Raises:
            StoreError: the database cannot be written.
        """
        self._save_measured(sensitivities_table, record, weights_sha256=record.spec.weights_sha256)

    def find_sensitivity(self, key: str) -> SensitivityRecord | None:
        """The sensitivities of that key, one's own first; None where they have to be measured, also in place of another
        version's.

        Raises:
            StoreError: the database cannot be read.
        """
        own = next(self._measured(sensitivities_table, parse_sensitivity, sensitivities_table.c.key == key), None)
        return own or self._sensitivities.get(key)

    def sensitivities(self, weights: Collection[str]) -> list[SensitivityRecord]:
        """What was measured of the layers of the checkpoints of those hashes, newest first, shipped ones among them.

        Raises:
            StoreError: the database cannot be read.
        """
        wanted = sensitivities_table.c.weights_sha256.in_(weights)
        found = {key: one for key, one in self._sensitivities.items() if one.spec.weights_sha256 in weights}
        found |= {one.spec.key: one for one in self._measured(sensitivities_table, parse_sensitivity, wanted)}
        return sorted(found.values(), key=lambda one: one.created, reverse=True)

    def _save_measured(self, table: Table, record: Measured, **subject: str) -> None:
        key = record.spec.key
        columns = {"key": key, "created": record.created, **subject}
        with self._database.writing() as connection:
            connection.execute(delete(table).where(table.c.key == key))
            connection.execute(insert(table).values(**columns, payload=json.dumps(record.to_dict())))

    def _measured(
        self, table: Table, parse: Callable[[str], Measured], wanted: ColumnElement[bool]
    ) -> Iterator[Measured]:
        """The records that can be read, newest first."""
        with self._database.reading() as connection:
            payloads = list(connection.scalars(select(table.c.payload).where(wanted).order_by(table.c.created.desc())))
        for payload in payloads:
            with suppress(RecordError):
                yield parse(payload)

    def artifact_path(self, record: RunRecord, name: str = CHECKPOINT, *, fetch: bool = True) -> Path | None:
        """Where a file of a result lies on this machine.

        Args:
            record: the result.
            name: of the artifact.
            fetch: get it from the shared place into the run folder where it is not here, which may take a while.

        Returns:
            None where the result has no file of that name, or it is not there or damaged.

        Raises:
            StoreError: the shared place cannot be read.
        """
        artifact = next((item for item in record.artifacts if item.name == name), None)
        if artifact is None:
            return None
        name_here = Path(artifact.file).name
        files = [_aside(record.key, artifact), run_folder(record.key) / name_here]
        shipped = self._shipped.by_key.get(record.key)
        if shipped and artifact in shipped.record.artifacts:
            files.insert(0, shipped.folder / name_here)
        # Only the file's name counts: a record cannot point outside of its folder. Another size is another file.
        here = next((file for file in files if _has_size(file, artifact.size_bytes)), None)
        if here is None and fetch and self._place and self._place.fetch(artifact, files[-1]):
            return files[-1]
        return here


def own_store() -> Store:
    """The store of the data folder and of what TRIMBOARD_DB and TRIMBOARD_ARTIFACTS name, opened once a process."""
    return _store_in(home(), os.environ.get(ADDRESS_VARIABLE), os.environ.get(PLACE_VARIABLE))


@lru_cache(maxsize=1)
def _store_in(folder: Path, address: str | None, place: str | None) -> Store:
    return Store()


def _write(connection: Connection, record: RunRecord) -> None:
    """Put a result in place of an earlier one of the same key."""
    line = summary_line(record)
    for table in (records_table, summaries_table):
        connection.execute(delete(table).where(table.c.key == record.key))
    columns = {
        "key": record.key,
        "model": record.model,
        "data": record.data,
        "level": record.level,
        "created": record.created,
    }
    payload = json.dumps(record.to_dict())
    connection.execute(insert(records_table).values(**columns, payload=payload, head=head_json(record)))
    further = {"architecture": record.architecture, "provenance": record.provenance, "line": line}
    connection.execute(insert(summaries_table).values(**columns, **further))


def _compared(known: RunRecord | None, coming: RunRecord, replace: bool) -> Merged:
    if known is None:
        return "added"
    if known.without_places() == coming.without_places():
        return "same"
    return "replaced" if replace else "conflict"


def _chosen(query: Select[Any], table: Table, model: str | None, data: str | None) -> Select[Any]:
    if model is not None:
        query = query.where(table.c.model == model)
    if data is not None:
        query = query.where(table.c.data == data)
    return query


def _is_chosen(record: RunRecord, model: str | None, data: str | None) -> bool:
    return model in (None, record.model) and data in (None, record.data)


def _aside(key: str, artifact: Artifact) -> Path:
    """Where a file lies while that of a newer result takes its place."""
    return run_folder(key) / _REPLACED / Path(artifact.sha256).name / Path(artifact.file).name


def _has_size(file: Path, size_bytes: int) -> bool:
    return file.is_file() and file.stat().st_size == size_bytes


@lru_cache(maxsize=2048)
def _readable_record(payload: str) -> RunRecord | None:
    """The record, or None where it cannot be read; the page asks for the same texts again and again."""
    try:
        return parse_record(payload)
    except RecordError:
        return None
