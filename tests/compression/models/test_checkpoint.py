"""Checkpoints that are written: what comes back, what is in them, and what plain Ultralytics makes of them."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ultralytics.nn.tasks import DetectionModel

from compression.models.checkpoint import checkpoint_info, write_checkpoint
from compression.models.detector import CHECKPOINT_KEY, open_detector, read_checkpoint
from tests.compression.small_models import FAMILIES, LEVEL_5, build, equal, outputs, planner, pruned

INFO: dict[str, Any] = {"level": 5, "target": {"gflops_kept": 0.78}, "names": ["ü", "b"], "none": None, "yes": True}

families = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "compressed.pt"


def content_of(file: Path) -> dict[str, Any]:
    """Everything in a checkpoint."""
    content = torch.load(file, weights_only=False)
    assert isinstance(content, dict)
    return content


# Round trip


@families
def test_round_trip(name: str, file: Path) -> None:
    model = pruned(name, LEVEL_5)
    write_checkpoint(model, file, INFO)
    back, info = read_checkpoint(file)
    assert info == INFO
    assert back.yaml == model.yaml
    assert back.names == model.names
    halved = {
        key: value.half().float() if value.is_floating_point() else value for key, value in model.state_dict().items()
    }
    assert list(back.state_dict()) == list(halved)
    assert equal(list(back.state_dict().values()), list(halved.values()))
    for ours, theirs in zip(outputs(back), outputs(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)


def test_writing_twice_loses_nothing_more(file: Path) -> None:
    write_checkpoint(pruned("yolo26n", LEVEL_5), file, {})
    once, _ = read_checkpoint(file)
    write_checkpoint(once, file, {})
    assert equal(outputs(read_checkpoint(file)[0]), outputs(once))


def test_the_model_is_left_alone(file: Path) -> None:
    model = copy.deepcopy(pruned("yolov8n", LEVEL_5)).train()
    model.args = {"imgsz": 320, "data": "/home/somebody/data.yaml"}
    model.pt_path = "/home/somebody/best.pt"
    before = copy.deepcopy(model.state_dict())
    write_checkpoint(model, file, {})
    assert equal(list(model.state_dict().values()), list(before.values()))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.training
    assert model.args == {"imgsz": 320, "data": "/home/somebody/data.yaml"}
    assert model.pt_path == "/home/somebody/best.pt"


def test_the_folder_is_created(tmp_path: Path) -> None:
    write_checkpoint(build_with_args(), tmp_path / "new ü" / "folder" / "small.pt", {})
    assert [path.name for path in (tmp_path / "new ü" / "folder").iterdir()] == ["small.pt"]


def build_with_args(**arguments: Any) -> DetectionModel:
    model = build()
    model.args = arguments
    return model


@pytest.mark.parametrize("old", [b"the old file", None])
def test_failed_writing_leaves_the_old_file(old: bytes | None, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if old:
        file.write_bytes(old)

    def fill_the_disk(draft: Path, _content: bytes) -> None:
        with draft.open("wb") as stream:
            stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(build_with_args(), file, {})
    assert (file.read_bytes() if file.exists() else None) == old
    assert list(file.parent.iterdir()) == ([file] if old else [])


# Content


@families
def test_stock_classes_only(name: str, file: Path) -> None:
    write_checkpoint(pruned(name, LEVEL_5), file, INFO)
    content = content_of(file)
    for module in content["model"].modules():
        assert type(module).__module__.startswith(("ultralytics.nn.", "torch.nn."))
        assert "forward" not in vars(module)
    with zipfile.ZipFile(file) as archive:
        pickled = next(archive.read(member) for member in archive.namelist() if member.endswith("data.pkl"))
    for package in (b"compression", b"torch_pruning", b"numpy", b"cache.", b"pathlib"):
        assert package not in pickled


def test_content_is_that_of_a_finished_training(file: Path) -> None:
    write_checkpoint(pruned("yolo26n", LEVEL_5), file, INFO)
    content = content_of(file)
    assert content[CHECKPOINT_KEY] == INFO
    assert content["epoch"] == -1
    assert content["optimizer"] is content["ema"] is content["updates"] is None
    assert {parameter.dtype for parameter in content["model"].parameters()} == {torch.float16}
    assert not any(parameter.requires_grad for parameter in content["model"].parameters())
    assert not content["model"].training


def test_info() -> None:
    assert checkpoint_info("yolo26n", {"level": 5}) == {"info_version": 1, "label": "yolo26n", "level": 5}


def test_no_place_of_this_machine_is_handed_on(tmp_path: Path) -> None:
    own = {key: value for key, value in build().yaml.items() if key not in ("yaml_file", "channels")}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    module = open_detector(str(tmp_path / "own.yaml")).module
    places = ("model", "data", "project", "save_dir", "source", "pretrained", "cfg", "tracker", "distill_model")
    module.args = {key: str(tmp_path / f"{key}.yaml") for key in places} | {"resume": True, "device": "3", "lr0": 0.01}
    module.args["name"], module.args["teacher_of"] = "secret-project", str(tmp_path)
    module.pt_path = str(tmp_path / "start.pt")
    write_checkpoint(module, tmp_path / "folder" / "small.pt", {})
    written = (tmp_path / "folder" / "small.pt").read_bytes()
    for place in (str(tmp_path), tmp_path.name, str(Path.home()), "secret-project"):
        assert place.encode() not in written
    arguments = content_of(tmp_path / "folder" / "small.pt")["train_args"]
    assert (arguments["model"], arguments["data"], arguments["lr0"]) == ("model.yaml", "data.yaml", 0.01)
    assert (arguments["project"], arguments["resume"], arguments["device"]) == (None, None, None)


@pytest.mark.parametrize(
    "place", ["C:\\Users\\somebody\\data.yaml", "\\\\server\\share\\data.yaml", Path("/a/data.yaml")]
)
def test_places_of_other_machines(place: str | Path, file: Path) -> None:
    write_checkpoint(build_with_args(data=place), file, {})
    assert content_of(file)["train_args"]["data"] == "data.yaml"


# Plain Ultralytics

IN_PLAIN_ULTRALYTICS = """
import json, sys
for ours in ("compression", "cache", "pages"):
    sys.modules[ours] = None  # importing one of them fails
import numpy
import torch
from ultralytics import YOLO
from ultralytics.nn.tasks import SAFE_LOAD
from ultralytics.utils import SETTINGS

model = YOLO("compressed.pt")
result = model.predict(numpy.full((64, 64, 3), 114, numpy.uint8), imgsz=64, conf=0.001, verbose=False, save=False)[0]
with torch.inference_mode():
    raw = model.model(torch.full((1, 3, 64, 64), 0.5))[0]
n_params = sum(parameter.numel() for parameter in YOLO("compressed.pt").model.parameters())
exported = model.export(format="onnx", imgsz=64, simplify=False)
print("RESULT", json.dumps({
    "safe": bool(SAFE_LOAD), "n_params": n_params, "boxes": list(result.boxes.data.shape), "names": len(result.names),
    "exported": exported, "info": model.ckpt["trimboard"], "shape": list(raw.shape),
}))
"""


@pytest.mark.parametrize("name", ["yolo26n"])
def test_plain_ultralytics_loads_predicts_and_exports(name: str, file: Path) -> None:
    import onnx

    write_checkpoint(pruned(name, LEVEL_5), file, INFO)
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TRIMBOARD_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", IN_PLAIN_ULTRALYTICS],
        cwd=file.parent,
        env=environment | {"ULTRALYTICS_SAFE_LOAD": "1", "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])
    cut = planner(name).plan(LEVEL_5)
    assert result["safe"]
    assert result["n_params"] == cut.after.params
    assert result["info"] == INFO
    assert result["names"] == 80
    assert result["boxes"][1] == 6
    onnx_file = file.parent / result["exported"]
    assert onnx_file.name == "compressed.onnx"
    graph = onnx.load(onnx_file).graph
    assert [each.dim_value for each in graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 64]
    widths = {weight.dims[0] for weight in graph.initializer if len(weight.dims) == 4}
    assert widths >= {row.channels_after for row in cut.layers if row.name.startswith("model.4.")}
