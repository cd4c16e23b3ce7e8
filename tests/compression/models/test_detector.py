"""Opening models: by name, by architecture, by path; and the sentence for each file that is none."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from ultralytics.nn.modules import SPPF
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import downloads

from compression.catalog import (
    CATALOG,
    catalog_name,
    known_models,
    model_label,
    n_blocks_of,
    task_of_name,
    weights_file,
)
from compression.errors import ModelError
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import file_sha256, n_channels, needs_training, open_detector, with_classes
from tests.compression.small_models import LEVEL_5, build, equal, original, outputs, pruned


@pytest.fixture(scope="module")
def checkpoint_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a checkpoint of yolov8n."""
    file = tmp_path_factory.mktemp("models") / "model.pt"
    write_checkpoint(original("yolov8n"), file, {"level": 0})
    return file.read_bytes()


@pytest.fixture(autouse=True)
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Ultralytics would have asked the network for; each request fails."""
    asked: list[str] = []

    def refuse(*args: Any, **keys: Any) -> None:
        asked.append(str(keys.get("url", args)))
        raise ConnectionError("no network in tests")

    monkeypatch.setattr(downloads, "safe_download", refuse)
    monkeypatch.setattr(downloads, "get_github_assets", refuse)
    return asked


def fault(model: str | Path) -> str:
    """The sentence that opening a model ends with."""
    with pytest.raises(ModelError) as caught:
        open_detector(str(model))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def saved(content: Any, folder: Path) -> Path:
    """A file of that content, as torch saves it."""
    torch.save(content, folder / "saved.pt")
    return folder / "saved.pt"


# Own checkpoints


@pytest.mark.parametrize(
    "name", ["mine.pt", "my model (2).pt", "Küche 模型 🙂.pt", "BEST.PT", "yolo26n.pt", "a.b.c.pt"]
)
def test_own_checkpoint(name: str, checkpoint_bytes: bytes, tmp_path: Path, requests: list[str]) -> None:
    folder = tmp_path / "Meine Modelle ü"
    folder.mkdir()
    file = folder / name
    file.write_bytes(checkpoint_bytes)
    opened = open_detector(str(file))
    assert opened.label == name.rsplit(".", 1)[0]
    assert opened.architecture == "yolov8n"
    assert opened.file == file
    assert opened.info == {"level": 0}
    assert opened.weights_sha256 == hashlib.sha256(checkpoint_bytes).hexdigest() == file_sha256(file)
    assert not opened.has_e2e_head
    assert not opened.module.training
    assert {parameter.dtype for parameter in opened.module.parameters()} == {torch.float32}
    assert requests == []


def test_relative_path_and_home(checkpoint_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.pt").write_bytes(checkpoint_bytes)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_detector("~/mine.pt").label == "mine"
    monkeypatch.chdir(tmp_path)
    assert open_detector("mine.pt").label == "mine"


def test_a_checkpoint_of_ultralytics_without_our_notes(tmp_path: Path) -> None:
    # `ema` comes first, as Ultralytics takes it; `train_args` may be missing or empty.
    best, last = original("yolo26n"), original("yolov8n")
    opened = open_detector(str(saved({"ema": best, "model": last, "train_args": None}, tmp_path)))
    assert opened.architecture == "yolo26n"
    assert opened.has_e2e_head
    assert opened.info == {}
    assert opened.module.args["imgsz"] == 640
    assert equal(outputs(opened.module), outputs(best))


def test_a_checkpoint_of_an_older_ultralytics(tmp_path: Path) -> None:
    model = copy.deepcopy(original("yolov8n"))
    model.names = ["a", "b", *map(str, range(2, 80))]
    model.yaml["ch"] = model.yaml.pop("channels")
    for module in model.modules():
        if isinstance(module, nn.Upsample):
            del module.recompute_scale_factor
        if isinstance(module, SPPF):
            del module.n, module.add
    opened = open_detector(str(saved({"model": model, "ema": None}, tmp_path))).module
    assert opened.names[1] == "b"
    assert n_channels(opened) == 3
    assert equal(outputs(opened), outputs(original("yolov8n")))
    assert len(with_classes(open_detector(str(tmp_path / "saved.pt")), {0: "a"}).names) == 1


def test_a_checkpoint_of_grey_images(tmp_path: Path) -> None:
    grey = DetectionModel("yolov8n.yaml", ch=1, nc=2, verbose=False).eval()
    grey.names = {0: "a", 1: "b"}
    detector = open_detector(str(saved({"model": grey}, tmp_path)))
    assert n_channels(detector.module) == 1
    # It was never pruned, and is not mistaken for it.
    other = with_classes(detector, {0: "a", 1: "b", 2: "c"})
    assert n_channels(other) == other.model[0].conv.in_channels == 1


def test_label_of_another_architecture(tmp_path: Path) -> None:
    model = build()
    model.args = {}
    write_checkpoint(model, tmp_path / "small.pt", {})
    assert open_detector(str(tmp_path / "small.pt")).architecture == "small"


# Files that are none


DAMAGED = (
    r"cannot be loaded: it is damaged, no Ultralytics checkpoint, or holds code or classes that the restricted loader"
)


@pytest.mark.parametrize(
    "content", [b"\n", b"hello there\n" * 30, b"\x80", b"\x80\x02N.", b"\x89PNG\r\n" + bytes(range(256)) * 8]
)
def test_files_that_are_no_checkpoint(content: bytes, tmp_path: Path, requests: list[str]) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(content)
    sentence = fault(file)
    assert sentence.startswith(repr(str(file)))
    assert DAMAGED in sentence
    assert file.read_bytes() == content
    assert requests == []


@pytest.mark.parametrize("part", [0.001, 0.5, 0.99, 0.99999])
def test_truncated_checkpoint(part: float, checkpoint_bytes: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(checkpoint_bytes[: int(part * len(checkpoint_bytes))])
    assert DAMAGED in fault(file)


def test_damaged_catalog_weights_are_not_replaced(own_home: Path, requests: list[str]) -> None:
    weights = weights_file("yolo26n")
    weights.parent.mkdir()
    weights.write_bytes(b"half a download")
    assert DAMAGED in fault("yolo26n.pt")
    assert weights.read_bytes() == b"half a download"
    assert requests == []


def test_zip_without_a_model(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("notes/readme.txt", "no model here")
    assert DAMAGED in fault(tmp_path / "model.pt")


def unknown_contents() -> dict[str, tuple[Callable[[], Any], str]]:
    """What a .pt may hold besides a detector, and what the sentence says."""
    no_model = "holds no model (weights without their layers are not enough)"
    return {
        "state dict": (lambda: original("yolov8n").state_dict(), no_model),
        "state dict in a checkpoint": (lambda: {"model": original("yolov8n").state_dict()}, no_model),
        "empty dict": (dict, no_model),
        "none": (lambda: {"model": None}, no_model),
        "text": (lambda: {"model": "yolo26n"}, no_model),
        "list": (lambda: [1, 2], DAMAGED),
        "tensor": (lambda: torch.zeros(3), DAMAGED),
        "other module": (lambda: {"model": nn.Linear(2, 2)}, "holds a model of class Linear; only YOLO"),
    }


@pytest.mark.parametrize(("content", "says"), unknown_contents().values(), ids=unknown_contents())
def test_other_contents(content: Callable[[], Any], says: str, tmp_path: Path) -> None:
    file = saved(content(), tmp_path)
    sentence = fault(file)
    assert sentence.startswith(repr(str(file)))
    assert says in sentence


@pytest.mark.parametrize("name", ["best.onnx", "best", "notes.txt"])
def test_other_suffixes(name: str, checkpoint_bytes: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(checkpoint_bytes)
    assert (
        fault(tmp_path / name) == f"{str(tmp_path / name)!r} is no .pt file; give a checkpoint that Ultralytics saved."
    )


def test_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.pt").mkdir()
    assert fault(tmp_path / "model.pt").startswith(f"There is no model {str(tmp_path / 'model.pt')!r}; give the path")


# Code in a file


class Planted:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path, call: Callable[..., Any] = os.mkdir) -> None:
        self.marker, self.call = marker, call

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return self.call, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


def test_the_planted_code_would_run(marker: Path, tmp_path: Path) -> None:
    # Without the restricted loader: so its absence below means something.
    torch.load(saved(Planted(marker), tmp_path), weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("place", ["alone", "model", "ema", "trimboard", "train_args", "inside the model"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_that_would_run_code_is_refused(place: str, legacy: bool, marker: Path, tmp_path: Path) -> None:
    model = copy.deepcopy(original("yolov8n"))
    planted = Planted(marker)
    if place == "inside the model":
        model.names = planted
    content: Any = {"model": model, "train_args": {}, place: planted}
    torch.save(
        planted if place == "alone" else content, tmp_path / "evil.pt", _use_new_zipfile_serialization=not legacy
    )
    assert DAMAGED in fault(tmp_path / "evil.pt")
    assert not marker.exists()


@pytest.mark.parametrize("call", [eval, exec, os.system, io.open, torch.load], ids=lambda call: str(call.__name__))
def test_other_calls_are_refused(call: Callable[..., Any], marker: Path, tmp_path: Path) -> None:
    assert DAMAGED in fault(saved({"model": Planted(marker, call)}, tmp_path))
    assert not marker.exists()


def code_that_marks(marker: Path) -> str:
    return f"__import__('pathlib').Path({str(marker)!r}).touch() or nn.SiLU()"


def test_the_code_of_a_yaml_would_run(marker: Path) -> None:
    build(activation=code_that_marks(marker))
    assert marker.exists()


def test_code_in_the_yaml_of_a_checkpoint_is_refused(marker: Path, tmp_path: Path) -> None:
    # It would run when the model is rebuilt for another number of classes.
    model = copy.deepcopy(original("yolov8n"))
    model.yaml["activation"] = code_that_marks(marker)
    assert "gives its activation as" in fault(saved({"model": model}, tmp_path))
    model.yaml["activation"], model.yaml["head"][-1][2] = None, "torch_safe_load"
    assert "names a block 'torch_safe_load', which is not run" in fault(saved({"model": model}, tmp_path))
    assert not marker.exists()


def own_yaml(file: Path, **keys: Any) -> Path:
    """An architecture of one class, changed by `keys`."""
    content = {key: value for key, value in build().yaml.items() if key not in ("yaml_file", "channels")}
    file.write_text(yaml.safe_dump(content | keys))
    return file


def test_code_in_a_yaml_is_refused(marker: Path, tmp_path: Path) -> None:
    file = own_yaml(tmp_path / "evil.yaml", activation=code_that_marks(marker))
    assert fault(file).endswith("which is not run; write it like 'nn.LeakyReLU(0.1)'.")
    for block in (
        "torch_safe_load",
        "os.system",
        "DetectionModel",
        "nn.init.zeros_",
        "nn.functional",
        "checks",
        "eval",
    ):
        own_yaml(file, backbone=[[-1, 1, block, [str(marker)]]])
        assert fault(file) == (
            f"{str(file)!r} names a block {block!r}, which is not run; use layers of Ultralytics and torch.nn."
        )
    assert not marker.exists()


@pytest.mark.parametrize("activation", ["nn.ReLU()", "torch.nn.LeakyReLU(0.1)", "nn.Hardtanh(min_val=-1, max_val=1.5)"])
def test_plain_activations_are_used(activation: str, tmp_path: Path) -> None:
    module = open_detector(str(own_yaml(tmp_path / "own.yaml", activation=activation))).module
    assert type(module.model[0].act).__name__ == activation.split("(")[0].rpartition(".")[2]


# Architectures


def test_architecture_by_name() -> None:
    opened = open_detector("yolo26n.yaml")
    assert (opened.label, opened.architecture, opened.file, opened.weights_sha256) == ("yolo26n", "yolo26n", None, None)
    assert opened.has_e2e_head
    assert not opened.module.training
    assert len(opened.module.names) == 80
    assert opened.info == {}
    assert equal(outputs(open_detector("yolo26n.yml").module), outputs(opened.module))


def test_seed_and_classes_of_an_architecture() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = (open_detector("yolov8n.yaml", nc=3, seed=seed).module for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(one.names) == one.model[-1].nc == 3
    assert equal(list(one.parameters()), list(same.parameters()))
    assert not equal(list(one.parameters()), list(other.parameters()))


def test_own_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = own_yaml(tmp_path / "mein Netz ü.yaml", nc=7)
    opened = open_detector(str(file))
    assert opened.label == opened.architecture == "mein Netz ü"
    assert len(opened.module.names) == 7
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_detector("~/mein Netz ü.yaml").label == opened.label


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "does not describe a model; its yaml needs 'backbone' and 'head'"),
        ("nc: 3\nbackbone: 5\nhead: []\n", "does not describe a model"),
        ("nc: 3\nbackbone: [[-1, 1, Conv]]\nhead: []\n", "does not describe a model"),
        ("nc: [broken", "cannot be built as a detector"),
        ("- 1\n", "cannot be built as a detector"),
        ("nc: 3\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\nhead:\n  - [9, 1, Conv, [8, 1, 1]]\n", "cannot be built"),
        (
            "nc: 3\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\nhead:\n  - [-1, 1, Conv, [8, 1, 1]]\n",
            "ends in Conv, not in",
        ),
    ],
)
def test_yaml_that_is_no_detector(content: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(content)
    sentence = fault(file)
    assert sentence.startswith(repr(str(file)))
    assert says in sentence


@pytest.mark.parametrize(
    "model", ["yolo99n.yaml", "yolov8n-sem.yaml", "/nowhere/yolo26n.yaml", "https://example.org/yolo26n.yaml", ".yaml"]
)
def test_unknown_architecture(model: str, requests: list[str]) -> None:
    assert fault(model) == (
        f"There is no architecture {model!r}; give the path of a .yaml, or a name that `trimboard models` lists."
    )
    assert requests == []


# Names


@pytest.mark.parametrize(
    "model",
    [
        "yolo99n.pt",
        "yolo26n-sem.pt",
        "yolo26",
        "YOLO26N.pt",
        "/nowhere/yolo26n.pt",
        "best.pt",
        "",
        " ",
        ".",
        "yolo26n.onnx",
        "https://example.org/yolo26n.pt",
    ],
)
def test_unknown_model(model: str, requests: list[str]) -> None:
    assert fault(model) == (
        f"There is no model {model!r}; give the path of a .pt or .yaml, or a name that `trimboard models` lists."
    )
    assert requests == []


@pytest.mark.parametrize("model", ["yolo26s.pt", "yolo26s"])
def test_catalog_model_without_network(model: str, own_home: Path, requests: list[str]) -> None:
    weights = own_home / "weights" / "yolo26s.pt"
    assert (
        fault(model) == f"yolo26s.pt could not be downloaded; check the network, or put the file at {str(weights)!r}."
    )
    assert len(requests) == 1
    assert requests[0].endswith("/yolo26s.pt")
    assert [path for path in own_home.rglob("*") if path != weights.parent] == []


def test_interrupted_download_leaves_nothing(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(url: str, file: Path, **keys: Any) -> None:
        file.write_bytes(b"half")
        file.with_suffix(".part").write_bytes(b"half")
        raise ConnectionError("cut off")

    monkeypatch.setattr(downloads, "safe_download", half)
    assert "could not be downloaded" in fault("yolo26s")
    assert [path.name for path in own_home.rglob("*")] == ["weights"]


def test_download_that_brings_nothing(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "attempt_download_asset", lambda file: str(file))
    assert "could not be downloaded" in fault("yolo26s")
    assert [path.name for path in own_home.rglob("*")] == ["weights"]


@pytest.mark.parametrize("model", ["yolov8n.pt", "yolov8n"])
def test_download(
    model: str, checkpoint_bytes: bytes, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch(url: str, file: Path, **keys: Any) -> None:
        fetched.append(url)
        file.write_bytes(checkpoint_bytes)

    monkeypatch.setattr(downloads, "safe_download", fetch)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        opened = open_detector(model)
        assert opened.label == opened.architecture == "yolov8n"
        assert opened.file == own_home / "weights" / "yolov8n.pt" == weights_file("yolov8n")
        assert opened.file.read_bytes() == checkpoint_bytes
    assert len(fetched) == 1
    assert [path.name for path in (own_home / "weights").iterdir()] == ["yolov8n.pt"]
    assert list(tmp_path.iterdir()) == []


def test_a_file_beside_wins_over_the_catalog(
    checkpoint_bytes: bytes, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: list[str]
) -> None:
    (tmp_path / "yolo26n.pt").write_bytes(checkpoint_bytes)
    monkeypatch.chdir(tmp_path)
    assert open_detector("yolo26n.pt").architecture == "yolov8n"
    assert requests == []


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("yolo26n.pt", "yolo26n"),
        ("yolo26n", "yolo26n"),
        ("dir/My.Model.PT", "My.Model"),
        ("C:\\models\\best.pt", "best"),
        ("a/b/own.yml", "own"),
        ("best.onnx", "best.onnx"),
    ],
)
def test_labels(model: str, label: str) -> None:
    assert model_label(model) == label


def test_catalog() -> None:
    assert len(CATALOG) == 84 + 92
    assert len([name for name in CATALOG if task_of_name(name) == "detect"]) == 84
    known = {model.name: model for model in known_models()}
    assert list(known) == list(CATALOG)
    assert (known["yolo26s"].params, known["yolo26s"].gflops) == (10_009_784, 22.8)
    assert known["yolov6n"].params is None
    assert {name for name, model in known.items() if model.source == "Ultralytics downloads it"} == {
        catalog_name(asset.removesuffix(".pt")) for asset in downloads.GITHUB_ASSETS_NAMES
    } - {None}
    weights = weights_file("yolo11x")
    weights.parent.mkdir()
    weights.touch()
    assert {model.name: model.source for model in known_models()}["yolo11x"] == str(weights)


def test_blocks_of_the_backbone_and_of_all() -> None:
    assert {name: n_blocks_of(name) for name in ("yolo26n", "yolov9c", "yolov3-tiny", "mine")} == {
        "yolo26n": (11, 24),
        "yolov9c": (10, 23),
        "yolov3-tiny": (13, 21),
        "mine": None,
    }
    assert all(n_blocks_of(name) for name in CATALOG)


# Another number of classes


def test_needs_training(checkpoint_bytes: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(checkpoint_bytes)
    trained = open_detector(str(tmp_path / "mine.pt"))
    assert not needs_training(trained, 80)
    assert needs_training(trained, 3)
    assert needs_training(open_detector("yolov8n.yaml"), 80)


def test_with_classes(checkpoint_bytes: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(checkpoint_bytes)
    detector = open_detector(str(tmp_path / "mine.pt"))
    assert with_classes(detector, detector.module.names) is detector.module
    torch.manual_seed(1)
    one = with_classes(detector, {0: "disc", 1: "ring"})
    torch.manual_seed(2)
    two = with_classes(detector, {0: "disc", 1: "ring"})
    assert one.names == {0: "disc", 1: "ring"}
    assert one.model[-1].nc == 2
    # What fits is kept, and the rest is drawn alike each time.
    assert equal(list(one.parameters()), list(two.parameters()))
    assert equal(list(one.model[:-1].parameters()), list(detector.module.model[:-1].parameters()))
    assert not one.training
    assert len(detector.module.names) == 80


def test_classes_can_change_twice(checkpoint_bytes: bytes, tmp_path: Path) -> None:
    # The first change leaves the class branches as wide as they were for 80 classes, which their yaml does not say.
    (tmp_path / "mine.pt").write_bytes(checkpoint_bytes)
    few = with_classes(open_detector(str(tmp_path / "mine.pt")), {0: "person", 1: "ring", 2: "star"})
    write_checkpoint(few, tmp_path / "few.pt", {})
    detector = open_detector(str(tmp_path / "few.pt"))
    fewer = with_classes(detector, {0: "ring", 1: "disc"})
    assert fewer.names == {0: "ring", 1: "disc"}
    assert equal(list(fewer.model[:-1].parameters()), list(detector.module.model[:-1].parameters()))
    # What was learned of a class goes with its name.
    assert torch.equal(fewer.model[-1].cv3[0][2].weight[0], detector.module.model[-1].cv3[0][2].weight[1])


def test_with_classes_refuses_a_compressed_model(tmp_path: Path) -> None:
    write_checkpoint(pruned("yolov8n", LEVEL_5), tmp_path / "small.pt", {})
    detector = open_detector(str(tmp_path / "small.pt"))
    with pytest.raises(ModelError, match=r"'small' was compressed for 80 classes and the data set has 2; compress its"):
        with_classes(detector, {0: "disc", 1: "ring"})


@pytest.mark.parametrize(("module", "told"), [("ultralytics.models", True), ("compression.models.detector", False)])
def test_nobody_is_told_of_what_is_done(module: str, told: bool) -> None:
    # As where a user works: with a network, and with Ultralytics from its package.
    program = (
        "import ultralytics.utils as utils; utils.ONLINE = utils.IS_PIP_PACKAGE = True; utils.TESTS_RUNNING = False; "
        f"import {module}; from ultralytics.utils.events import events; print(events.enabled)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == str(told)
