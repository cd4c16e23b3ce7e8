"""Models and data sets of the user's: checked, named, kept once, and removed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
import torch

from cache.store import Store
from compression.brought import add, brought, find_brought, keep_upload, remove
from compression.catalog import model_label
from compression.data.dataset import class_names, open_dataset
from compression.errors import DatasetError, ModelError, SpecError
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector
from compression.request import RunRequest
from tests import factories
from tests.compression.models.test_detector import Planted
from tests.compression.task_data import draw
from tests.compression.zips import images, png, roboflow, write_zip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("theirs") / "it's best.pt"
    module = open_detector("yolo26n.yaml", nc=2).module
    module.args["imgsz"] = 96
    plain = file.with_name("best.pt")
    write_checkpoint(module, plain, {})
    plain.rename(file)
    return file


def left(home: Path) -> list[str]:
    """What lies in the folder of brought things, but for the lock."""
    return sorted(file.name for file in (home / "brought").iterdir() if file.name != ".lock")


def test_a_result_is_brought_with_the_size_of_its_run(tmp_path: Path) -> None:
    module = open_detector("yolo26n.yaml", nc=2).module
    module.args["imgsz"] = 96
    write_checkpoint(module, tmp_path / "small.pt", {"imgsz": 64})
    assert add(str(tmp_path / "small.pt")).imgsz == 64


def test_a_model_is_kept_under_a_name_of_its_own(
    own_home: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = add(str(checkpoint))
    # Ultralytics opens no path with an apostrophe.
    assert (one.kind, one.name, one.architecture, one.imgsz) == ("model", "it-s-best", "yolo26n", 96)
    assert len(one.classes) == 2
    assert Path(one.path).read_bytes() == checkpoint.read_bytes()
    assert model_label(one.path) == one.name
    # The same file twice is one, whatever it is called.
    assert add(str(checkpoint), name="another") == one
    assert brought("model") == [one]
    # It is found again where the data folder was moved to.
    moved = own_home.with_name(f"{own_home.name}-moved")
    own_home.rename(moved)
    monkeypatch.setenv("TRIMBOARD_HOME", str(moved))
    found = find_brought("model", "it-s-best")
    assert found is not None
    assert Path(found.path).is_relative_to(moved)


def test_names_tell_results_apart(own_home: Path, tmp_path: Path, checkpoint: Path) -> None:
    Store().save(factories.record(1, model="ours"))
    for taken in ("ours", "yolo26s"):
        with pytest.raises(ModelError, match=f"The name '{taken}' is taken by something else"):
            add(str(checkpoint), name=taken)
    for bad in ("a/b", "x" * 61, "it's", " a", "[a]"):
        with pytest.raises(SpecError, match="cannot be a name; use at most 60 letters"):
            add(str(checkpoint), name=bad)
    copy = tmp_path / "yolo26s.pt"
    copy.write_bytes(checkpoint.read_bytes())
    assert add(str(copy)).name == "yolo26s-2"
    assert len(left(own_home)) == 1


def test_an_upload_is_not_unpickled_outside_the_restricted_loader(own_home: Path, tmp_path: Path) -> None:
    evil, trace = tmp_path / "evil.pt", tmp_path / "it-ran"
    torch.save({"model": Planted(trace)}, evil)
    upload = keep_upload("evil.pt", evil.read_bytes())
    with pytest.raises(ModelError, match=r"'evil\.pt' cannot be loaded: it is damaged, no Ultralytics checkpoint, or"):
        add(str(upload))
    assert not trace.exists()
    assert left(own_home) == []


def test_a_zip_is_unpacked_and_known_by_its_name(own_home: Path, tmp_path: Path) -> None:
    file = write_zip(tmp_path / "Blood cells (v1).zip", {f"top/{name}": text for name, text in roboflow().items()})
    upload = keep_upload("C:\\Users\\ann\\Blood cells (v1).zip", file.read_bytes())
    one = add(str(upload))
    assert (one.kind, one.name, one.classes, one.n_train, one.n_val) == (
        "data",
        "Blood-cells-v1",
        ("red", "white"),
        2,
        2,
    )
    assert class_names(one.path) == {0: "red", 1: "white"}
    # Nothing else is left: neither the upload nor what it was unpacked to.
    assert left(own_home) == [Path(one.path).parents[1].name]
    assert add(str(file), name="again") == one
    remove(one)
    assert left(own_home) == []
    assert brought("data") == []


def test_class_folders_are_brought_as_a_zip_and_from_their_place(own_home: Path, tmp_path: Path) -> None:
    folder = draw(tmp_path / "flowers", "classify")
    file = shutil.make_archive(str(tmp_path / "meadow"), "zip", tmp_path, "flowers")
    for given, name in ((file, "meadow"), (str(folder), "flowers")):
        one = add(given)
        assert (one.name, one.classes, one.n_train, one.n_val) == (name, ("tall", "wide"), 6, 4)
        assert find_brought("data", name) == one
        assert open_dataset(one.path, "classify").n_val == 4


@pytest.mark.parametrize("name", ["unpacked", "images"])
def test_no_name_moves_what_was_checked(own_home: Path, tmp_path: Path, name: str) -> None:
    # Labels beside their images, and no folder around.
    content: dict[str, bytes | str] = {"data.yaml": "train: train\nval: val\nnames: [disc]\n"}
    for number, split in enumerate(("train", "val")):
        content |= {f"{split}/a.png": png(number), f"{split}/a.txt": "0 .5 .5 .2 .2"}
    one = add(str(write_zip(tmp_path / f"{name}.zip", content)))
    assert brought("data") == [one]
    assert open_dataset(one.path).n_train == 1


def test_every_fault_is_told_and_nothing_is_left(own_home: Path, tmp_path: Path) -> None:
    bad = images("valid", class_index=7)
    file = write_zip(tmp_path / "cells.zip", roboflow(**bad, **{"train/images/0.png": b"no image"}))
    with pytest.raises(DatasetError) as caught:
        add(str(file))
    assert [fault.partition(" cannot")[0].partition(": class")[0] for fault in caught.value.faults] == [
        "The image train/images/0.png",
        "valid/labels/0.txt, line 1",
        "valid/labels/1.txt, line 1",
    ]
    assert "data.yaml names 2, so use 0 to 1." in caught.value.faults[1]
    assert left(own_home) == []


def test_images_without_labels_are_told(own_home: Path, tmp_path: Path) -> None:
    files = {name: content for name, content in roboflow().items() if "train/labels" not in name}
    with pytest.raises(DatasetError, match=r"None of the 2 train images of data\.yaml has a label"):
        add(str(write_zip(tmp_path / "cells.zip", files)))
    assert left(own_home) == []


def test_a_data_set_in_its_place_may_not_pass_for_a_known_one(tiny_shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    shutil.copytree(tiny_shapes.parent, folder)
    with pytest.raises(DatasetError, match=r"'shapes' is the name of a data set that comes with .*; rename the folder"):
        add(str(folder))
    assert brought("data") == []


def test_a_data_set_may_stay_where_it_is(own_home: Path, tiny_shapes: Path, tmp_path: Path) -> None:
    one = add(str(tiny_shapes.parent))
    assert (one.name, one.path, one.kept, one.n_train) == ("tiny-shapes", str(tiny_shapes), False, 12)
    assert add(str(tiny_shapes)).path == one.path
    assert len(brought("data")) == 1
    # Another one of that name.
    other = write_zip(tmp_path / "tiny-shapes.zip", roboflow())
    assert add(str(other)).name == "tiny-shapes-2"
    remove(one)
    assert tiny_shapes.is_file()
    assert [each.name for each in brought("data")] == ["tiny-shapes-2"]


def test_what_runs_need_is_not_removed(own_home: Path, tmp_path: Path) -> None:
    one = add(str(write_zip(tmp_path / "cells.zip", roboflow())))
    spec, queue = factories.spec(3), Store().queue
    queue.submit(spec, RunRequest(model="yolo26n.yaml", data=one.path, level=3), lanes="cpu")
    with pytest.raises(DatasetError, match="'cells' is needed by 1 run that waits or is at work; cancel it first"):
        remove(one)
    queue.cancel(spec.key)
    remove(one)
    assert brought("data") == []


def test_what_is_neither_is_told(tmp_path: Path) -> None:
    for name in ("model.onnx", "cells.tar.gz"):
        with pytest.raises(DatasetError, match=r"is neither a model nor a data set; give a \.pt"):
            add(str(tmp_path / name))
    for name, error in (("a.pt", ModelError), ("a.zip", DatasetError)):
        with pytest.raises(error, match="There is no file"):
            add(str(tmp_path / name))


def test_what_an_ended_process_left_is_cleared(own_home: Path, tmp_path: Path) -> None:
    old, new = (keep_upload("a.zip", b"").parent for _ in range(2))
    long_ago = time.time() - 100_000
    os.utime(old, (long_ago, long_ago))
    with pytest.raises(DatasetError):
        add(str(tmp_path / "nothing.zip"))
    assert left(own_home) == [new.name]
