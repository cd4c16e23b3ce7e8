"""The database: transactions that several processes can hold beside each other, and its form kept up to date.

A database remembers its form as the number of the last revision that it went through. An older one is migrated when it
is opened; Alembic is imported only then, as a page opens the database whenever it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Column, Connection, MetaData, String, Table, insert, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from cache.engine import StoreError as StoreError
from cache.engine import explained, open_engine, parse_address, reading, shown, writing
from cache.tables import REVISION, metadata

# Alembic's own table. Its entries have a name of ours, so that another program's database is not taken for one.
revision_table = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
REVISION_PREFIX = "trimboard_"

# What a database of before there were revisions holds.
_FIRST_TABLES = {"records", "plans", "runs"}


def revision_name(number: int) -> str:
    """A revision as Alembic knows it."""
    return f"{REVISION_PREFIX}{number}"


class Database:
    """An open database, created on first use."""

    def __init__(self, url: str | URL) -> None:
        """Open it, and bring it up to date.

        Raises:
            StoreError: the address is none, the database is not ours or of a newer program, or cannot be used.
        """
        self._url = parse_address(url)
        engine = open_engine(self._url)
        self._reading, self._writing = reading(engine), writing(engine)
        if not self._is_up_to_date():
            with self.writing() as connection:
                self._bring_up_to_date(connection)

    def close(self) -> None:
        """Close the connections; they are opened again when needed."""
        self._writing.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees the database as it is now, and holds nobody up."""
        with self._telling_errors(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that takes effect at its end, or not at all; waits while another one writes."""
        with self._telling_errors(), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _telling_errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise explained(self._url, error) from error

    def _is_up_to_date(self) -> bool:
        """One short query, as this is asked whenever a page is drawn."""
        with self._telling_errors(), self._reading.connect() as connection:
            try:
                return connection.scalars(select(revision_table)).all() == [revision_name(REVISION)]
            except DBAPIError:
                # There is no such table, or nothing can be read at all, which is found out next.
                return False

    def _bring_up_to_date(self, connection: Connection) -> None:
        """Create or migrate the database; another process may have done it since it was looked at."""
        tables = set(inspect(connection).get_table_names())
        if revision_table.name in tables:
            revision = self._number(list(connection.scalars(select(revision_table))))
        elif not tables:
            metadata.create_all(connection)
            _note_revision(connection, REVISION)
            return
        elif tables >= _FIRST_TABLES:
            revision = 1
            _note_revision(connection, revision)
        else:
            raise self._not_ours()
        if revision < REVISION:
            from cache.migrations import migrate

            migrate(connection)

    def _number(self, noted: list[str]) -> int:
        """The revision that a database is in.

        Raises:
            StoreError: it is not ours, or of a newer program.
        """
        number = noted[0].removeprefix(REVISION_PREFIX) if len(noted) == 1 else ""
        if not number.isdecimal() or noted != [revision_name(int(number))]:
            raise self._not_ours()
        if int(number) > REVISION:
            raise StoreError(
                f"The results database {shown(self._url)} was written by a newer Trimboard (form {number}, this one "
                f"knows up to {REVISION}); update this one: pip install --upgrade trimboard"
            )
        return int(number)

    def _not_ours(self) -> StoreError:
        return StoreError(
            f"The database {shown(self._url)} holds tables of another program; give Trimboard an empty one of its own."
        )


def _note_revision(connection: Connection, number: int) -> None:
    revision_table.create(connection, checkfirst=True)
    connection.execute(insert(revision_table).values(version_num=revision_name(number)))
