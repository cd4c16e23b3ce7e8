"""The database of results, plans and runs: one SQLite file, safe with several processes at once.

Each write is one transaction, so a reader sees a result whole or not at all. Results that come with the program,
measured and published, are read beside it; one's own wins over a shipped one of the same key.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from sqlalchemy import URL, delete, insert, select

from cache.database import Database, plans_table, records_table
from cache.published import load_published
from cache.queue import RunQueue
from cache.record import PlanRecord, RecordError, RunRecord, parse_plan, parse_record
from cache.shipped import SHIPPED, load_shipped
from compression.home import home, run_folder
from compression.models import model_label

# Raised when the planner makes other plans of the same cut; kept ones are then made anew.
PLAN_VERSION = 2


def plan_key(model: str, weights_sha256: str | None, nc: int, imgsz: int, level: int) -> str:
    """Sha256 of everything that decides a plan; equal for two paths of the same weights.

    Args:
        model: catalog name, .yaml, or the path of a .pt.
        weights_sha256: hash of the weights; None for random weights.
        nc: number of classes the model predicts.
        imgsz: side of the square input, pixels.
        level: 0 to 5.
    """
    decisive = {
        "version": PLAN_VERSION,
        "model": None if weights_sha256 else model_label(model),
        "weights_sha256": weights_sha256,
        "nc": nc,
        "imgsz": imgsz,
        "level": level,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Store:
    """Results, plans and runs of one user.

    Attributes:
        queue: the runs.
    """

    def __init__(self, url: str | None = None, *, shipped: Path = SHIPPED) -> None:
        """Open the database, and create it on first use.

        Args:
            url: SQLAlchemy's address of a SQLite file; by default `trimboard.db` in the data folder.
            shipped: folder of the results that come with the program.

        Raises:
            StoreError: the file is not a database, or cannot be written.
        """
        self._shipped = load_shipped(shipped)
        self._published = {record.key: record for record in load_published(shipped / "published")}
        self._database = Database(url or URL.create("sqlite", database=str(home() / "trimboard.db")))
        self.queue = RunQueue(self._database)

    def close(self) -> None:
        """Close the connections; the store opens them again when it is used."""
        self._database.close()

    def save(self, record: RunRecord) -> None:
        """Add a result, in place of an earlier one of the same key.

        Raises:
            StoreError: the database cannot be written.
        """
        payload = json.dumps(record.to_dict())
        with self._database.writing() as connection:
            connection.execute(delete(records_table).where(records_table.c.key == record.key))
            connection.execute(
                insert(records_table).values(
                    key=record.key,
                    model=record.model,
                    data=record.data,
                    level=record.level,
                    created=record.created,
                    payload=payload,
                )
            )

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
        query = select(records_table.c.payload)
        if model is not None:
            query = query.where(records_table.c.model == model)
        if data is not None:
            query = query.where(records_table.c.data == data)
        with self._database.reading() as connection:
            own = [_readable_record(payload) for payload in connection.scalars(query)]
        shipped = {key: item.record for key, item in self._shipped.by_key.items()}
        by_key = self._published | shipped | {record.key: record for record in own if record}
        chosen = (r for r in by_key.values() if model in (None, r.model) and data in (None, r.data))
        return sorted(chosen, key=lambda r: (r.model, r.data, r.level is None, r.level or 0, r.created, r.key))

    def unreadable(self) -> int:
        """How many stored results and runs, one's own or shipped, are of another version or damaged, and not shown.

        Raises:
            StoreError: the database cannot be read.
        """
        with self._database.reading() as connection:
            records = [_readable_record(payload) for payload in connection.scalars(select(records_table.c.payload))]
        return records.count(None) + self.queue.n_unreadable() + len(self._shipped.unreadable)

    def save_plan(self, key: str, plan: PlanRecord) -> None:
        """Add a plan, in place of an earlier one of the same `plan_key`.

        Raises:
            StoreError: the database cannot be written.
        """
        with self._database.writing() as connection:
            connection.execute(delete(plans_table).where(plans_table.c.key == key))
            connection.execute(insert(plans_table).values(key=key, payload=json.dumps(plan.to_dict())))

    def find_plan(self, key: str) -> PlanRecord | None:
        """The plan of that `plan_key`; None where it has to be computed, also in place of one of another version.

        Raises:
            StoreError: the database cannot be read.
        """
        with self._database.reading() as connection:
            payload = connection.scalar(select(plans_table.c.payload).where(plans_table.c.key == key))
        try:
            return parse_plan(payload) if payload is not None else None
        except RecordError:
            return None

    def artifact_path(self, record: RunRecord, name: str = "checkpoint") -> Path | None:
        """Where a file of a result lies; None where the result has none of that name, or the file is not there."""
        artifact = next((item for item in record.artifacts if item.name == name), None)
        if artifact is None:
            return None
        folders = [run_folder(record.key)]
        shipped = self._shipped.by_key.get(record.key)
        if shipped and artifact in shipped.record.artifacts:
            folders.insert(0, shipped.folder)
        # Only the file's name counts: a record cannot point outside of its folder. Another size is another file.
        files = (folder / Path(artifact.file).name for folder in folders)
        return next((file for file in files if file.is_file() and file.stat().st_size == artifact.size_bytes), None)


def own_store() -> Store:
    """The store of the data folder, opened once a process."""
    return _store_in(home())


@lru_cache(maxsize=1)
def _store_in(folder: Path) -> Store:
    return Store()


@lru_cache(maxsize=2048)
def _readable_record(payload: str) -> RunRecord | None:
    """The record, or None where it cannot be read; the page asks for the same texts again and again."""
    try:
        return parse_record(payload)
    except RecordError:
        return None
