"""Write checkpoints that plain Ultralytics loads: its own classes and keys, and what Trimboard notes as plain data."""

from __future__ import annotations

import copy
import io
import os
from datetime import UTC, datetime
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import torch
from ultralytics import __version__ as ultralytics_version
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG_KEYS

from compression.models.detector import CHECKPOINT_KEY
from compression.models.kinds import task_of

# Raise when what is noted in a checkpoint changes its form.
INFO_VERSION = 1


def checkpoint_info(label: str, content: dict[str, Any]) -> dict[str, Any]:
    """What Trimboard notes in a checkpoint.

    Args:
        label: the name that the model's results are grouped by.
        content: strings, numbers, lists and dicts only.
    """
    return {"info_version": INFO_VERSION, "label": label, **content}


def write_checkpoint(module: DetectionModel, file: Path, info: dict[str, Any]) -> None:
    """Save a model as Ultralytics saves a finished training: half precision, no optimizer.

    The file appears whole or not at all.

    Args:
        module: a detector; not modified.
        file: where it goes; the folder is created.
        info: what to note in it: strings, numbers, lists and dicts only, so that restricted loaders accept it.
    """
    stored = copy.deepcopy(module).half().eval().requires_grad_(False)
    # By this Ultralytics tells how to run a model.
    stored.args = _training_arguments(dict(stored.args)) | {"task": task_of(stored)}
    stored.yaml["yaml_file"] = _without_folder(stored.yaml.get("yaml_file", ""))
    stored.pt_path = None
    stored.criterion = None
    checkpoint = {
        "epoch": -1,
        "best_fitness": None,
        "model": stored,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": stored.args,
        "date": datetime.now(UTC).isoformat(),
        "version": ultralytics_version,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
        CHECKPOINT_KEY: info,
    }
    content = io.BytesIO()
    torch.save(checkpoint, content)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        # Written in one piece by Python: a full disk is no OSError where PyTorch meets it.
        draft.write_bytes(content.getbuffer())
        draft.replace(file)
    except OSError as error:
        # Of the draft nobody knows.
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        draft.unlink(missing_ok=True)


def _training_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ultralytics' arguments without places on this machine: of files the names, of outputs nothing."""
    known = {key: _without_folder(value) for key, value in arguments.items() if key in DEFAULT_CFG_KEYS}
    return known | dict.fromkeys(("project", "name", "save_dir", "resume", "device"))


def _without_folder(value: Any) -> Any:
    # The parser for Windows takes both kinds of slashes.
    return PureWindowsPath(value).name if isinstance(value, str | PurePath) else value
