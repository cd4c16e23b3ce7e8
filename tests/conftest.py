"""What every test shares: no network, a data folder of its own, and a small drawn data set."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.postgres import Server, programs, running_server

# Ultralytics reads these when it is imported, so they are set before any test module is.
_CONFIG = Path(tempfile.mkdtemp(prefix="trimboard-tests-"))
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_CONFIG_DIR"] = str(_CONFIG)
# One thread is enough for models this small; several spin for each other where the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# Files of minutes begin first, the longest in front, so that no process is left alone with one of them at the end.
LONGEST = (
    *("compression/test_ray.py", "compression/test_pipeline.py", "compression/test_faults.py"),
    *(
        "compression/test_worker.py",
        "browser/test_explore.py",
        "cache/test_load.py",
        "compression/training/test_shared_run.py",
    ),
    *(
        "browser/test_runs.py",
        "compression/deployment/test_latency.py",
        "compression/training/test_finetune.py",
        "browser/test_bring.py",
    ),
    *("compression/graph/test_families.py", "compression/cli/test_cli.py"),
)


def _place_font() -> None:
    """Give Ultralytics a font under the name it would otherwise download."""
    from matplotlib import get_data_path

    folder = _CONFIG / "Ultralytics"
    folder.mkdir()
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        shutil.copy(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", folder / name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    order = {here / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_sessionstart(session: pytest.Session) -> None:
    _place_font()


def pytest_sessionfinish(session: pytest.Session) -> None:
    shutil.rmtree(_CONFIG, ignore_errors=True)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test keeps its results, runs and data sets in a folder of its own."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TRIMBOARD_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never write into a database or a bucket that the developer works with."""
    monkeypatch.delenv("TRIMBOARD_DB", raising=False)
    monkeypatch.delenv("TRIMBOARD_ARTIFACTS", raising=False)


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is tested leaves itself behind as the program, and every process that is started would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server; skipped where it is not installed, unless TRIMBOARD_REQUIRE_POSTGRES=1."""
    if programs() is None:
        reason = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("TRIMBOARD_REQUIRE_POSTGRES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with running_server() as server:
        yield server


@pytest.fixture
def postgresql_address(postgresql: Server) -> Iterator[str]:
    """The address of an empty PostgreSQL database."""
    with postgresql.new_database() as address:
        yield address


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket, which this process and those that it starts can reach."""
    import boto3

    for name, value in (
        ("AWS_ENDPOINT_URL", s3_server),
        ("AWS_ACCESS_KEY_ID", "tester"),
        ("AWS_SECRET_ACCESS_KEY", "secret-of-tester"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    client, name = boto3.client("s3"), f"test-{uuid4().hex}"
    client.create_bucket(Bucket=name)
    yield f"s3://{name}"
    for item in client.list_objects_v2(Bucket=name).get("Contents", ()):
        client.delete_object(Bucket=name, Key=item["Key"])
    client.delete_bucket(Bucket=name)


@pytest.fixture(scope="session")
def tiny_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of 12 training and 6 validation images of `shapes`; not to be changed."""
    from compression.data.shapes import draw_dataset

    return draw_dataset(tmp_path_factory.mktemp("tiny") / "tiny-shapes", {"train": 12, "val": 6})
