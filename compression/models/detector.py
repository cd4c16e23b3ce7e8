"""Open a model: a catalog name, an architecture (.yaml) or one's own checkpoint (.pt)."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn import modules as ultralytics_modules
from ultralytics.nn.autobackend import check_class_names
from ultralytics.nn.tasks import DetectionModel, guess_model_task, torch_safe_load, yaml_model_load
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.events import events

from compression.catalog import CATALOG, TaskName, catalog_name, is_offered, model_label, weights_file
from compression.errors import ModelError
from compression.graph.blocks import BLOCKS_VARIABLE, load_own_blocks
from compression.models.kinds import KINDS, task_of
from compression.models.unfuse import unfuse, was_fused
from compression.spec import HeadName, default_imgsz_of

# Ultralytics would tell its makers of each training, validation, prediction and export. Its setting for that is the
# user's, and holds for what he does without Trimboard too.
events.enabled = False

# Where what Trimboard adds to a checkpoint stands, as plain data.
CHECKPOINT_KEY = "trimboard"

# Noted there of a model that was unfused and not trained since.
UNFUSED = "unfused"

# Packages whose classes are no blocks of a user's own.
_LIBRARIES = sys.stdlib_module_names | {"torch", "torchvision", "numpy", "ultralytics"}

# What is told of a model that is no YOLO of these tasks.
_ONLY = "only YOLO that detect, segment, classify, or find poses or rotated boxes can be pruned"

# One class of torch.nn with plain arguments, as in "nn.LeakyReLU(0.1)".
PLAIN_ACTIVATION = re.compile(r"(torch\.)?nn\.\w+\([\w\s=.,+-]*\)")


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A model as it was opened.

    Attributes:
        label: the name that its results are grouped by.
        architecture: catalog name of the architecture ("yolo26n"), or the label where unknown.
        module: float32, on the CPU, in eval mode.
        weights_sha256: of the checkpoint file; None for an architecture with random weights.
        file: the checkpoint; None for an architecture.
        info: what an earlier compression left in the checkpoint; empty otherwise.
    """

    label: str
    architecture: str
    module: DetectionModel
    weights_sha256: str | None
    file: Path | None
    info: dict[str, Any]

    @property
    def task(self) -> TaskName:
        """What the model predicts."""
        return task_of(self.module)

    @property
    def has_e2e_head(self) -> bool:
        """Whether the model predicts end to end, without non-maximum suppression."""
        return getattr(self.module.model[-1], "one2one_cv2", None) is not None

    @property
    def usual_imgsz(self) -> int:
        """Side of the square input where nobody asks for another, pixels.

        That of the run which left the checkpoint; for another classifier what it was trained at.
        """
        trained = self.module.args.get("imgsz") if self.task == "classify" else None
        known = (size for size in (self.info.get("imgsz"), trained) if isinstance(size, int))
        return next(known, default_imgsz_of(self.task))

    @property
    def was_unfused(self) -> bool:
        """Whether what fusing took of the model was rebuilt, and has not been trained since."""
        return was_fused(self.module) or bool(self.info.get(UNFUSED))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What about the model whoever reads its results should know."""
        if not self.was_unfused:
            return ()
        head = "; its one-to-many head begins as a copy of the end-to-end one" if self.has_e2e_head else ""
        return (
            f"{self.label!r} was fused for deployment and is unfused again; its BatchNorm takes its statistics from "
            f"training images where a data set is given{head}.",
        )

    def choose_head(self, head: HeadName | None) -> HeadName:
        """The predictions to measure: those asked for, else end-to-end where the model has them.

        Raises:
            ModelError: the model has no such predictions.
        """
        if head == "nms" and self.has_e2e_head and self.was_unfused:
            raise ModelError(
                f"{self.label!r} was fused, which took the head that --head nms would measure; "
                f"measure it with --head e2e."
            )
        if head == "e2e" and not self.has_e2e_head:
            raise ModelError(f"{self.label!r} has no end-to-end head; measure it with --head nms.")
        return head or ("e2e" if self.has_e2e_head else "nms")


def open_detector(
    model: str, *, nc: int | None = None, kpt_shape: tuple[int, int] | None = None, seed: int = 0
) -> Detector:
    """Open a model by the restricted loader.

    Args:
        model: catalog name ("yolo26s.pt", downloaded by Ultralytics; "yolo26s" means the same), architecture
            ("yolo26s.yaml" or the path of a .yaml), or the path of a checkpoint.
        nc: number of classes of an architecture; its yaml's own where None. Ignored for a checkpoint.
        kpt_shape: number of key points, and of values of each, of an architecture for poses; likewise.
        seed: of an architecture's random weights.

    Raises:
        ModelError: there is no such model, it cannot be downloaded, it is damaged or holds more than weights and
            Ultralytics' own classes, or it is no detector that can be pruned.
    """
    load_own_blocks()
    if is_architecture(model):
        return _from_architecture(model, nc, kpt_shape, seed)
    file = _checkpoint_file(model)
    module, info = read_checkpoint(file)
    return Detector(
        label=model_label(model),
        architecture=architecture_of(module) or model_label(model),
        module=module,
        weights_sha256=file_sha256(file),
        file=file,
        info=info,
    )


def read_checkpoint(file: Path) -> tuple[DetectionModel, dict[str, Any]]:
    """The model of a checkpoint, float32 on the CPU, and what Trimboard noted in it.

    Raises:
        ModelError: the file is no checkpoint of a detector, or holds more than Ultralytics' restricted loader admits.
    """
    load_own_blocks()
    if not file.is_file():
        raise ModelError(f"There is no file {str(file)!r}; give the path of a .pt checkpoint.")
    if file.suffix.lower() != ".pt":
        raise ModelError(f"{str(file)!r} is no .pt file; give a checkpoint that Ultralytics saved.")
    _check_content(file)
    try:
        with _plain_path(file) as path, warnings.catch_warnings():
            # PyTorch asks to be told of pickles that it did not write.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            checkpoint, _ = torch_safe_load(path, safe_only=True)
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        if own := _unknown_class(error):
            raise ModelError(
                f"{str(file)!r} holds {own}, which the restricted loader does not know; where that is a block of your "
                f"own, name its module in {BLOCKS_VARIABLE}, see docs/blocks.md."
            ) from error
        raise ModelError(
            f"{str(file)!r} cannot be loaded: it is damaged, no Ultralytics checkpoint, or holds code or classes that "
            f"the restricted loader refuses; save it again with Ultralytics' YOLO(...).save()."
        ) from error
    module = checkpoint.get("ema") or checkpoint.get("model")
    _check_detector(module, str(file))
    _check_config(getattr(module, "yaml", None), str(file))
    _check_storages(module, str(file))
    module = _up_to_date(module).float().eval()
    _check_numbers(module, str(file))
    unfuse(module)
    module.args = {**_default_args(module), **(checkpoint.get("train_args") or {}), "task": task_of(module)}
    info = checkpoint.get(CHECKPOINT_KEY)
    return module, info if isinstance(info, dict) else {}


def _unknown_class(error: BaseException) -> str:
    """The class that the loader refused, with its module; empty where it refused another thing, or a library's."""
    said = re.search(
        r"Unsupported global: GLOBAL (\w{1,99}(?:\.\w{1,99}){1,9}) ", str(error.__cause__ or error.__context__ or "")
    )
    if said is None or said[1].partition(".")[0] in _LIBRARIES:
        return ""
    return said[1]


def _default_args(module: DetectionModel) -> dict[str, Any]:
    """Ultralytics' settings of a training where none were saved."""
    task = task_of(module)
    return {**DEFAULT_CFG_DICT, "task": task, "imgsz": default_imgsz_of(task)}


def _up_to_date(module: DetectionModel) -> DetectionModel:
    """The model with what an older Ultralytics or PyTorch did not save, or saved in another form."""
    if isinstance(module.names, list):
        module.names = dict(enumerate(module.names))
    for each in module.modules():
        if isinstance(each, nn.Upsample) and not hasattr(each, "recompute_scale_factor"):
            each.recompute_scale_factor = None  # before PyTorch 1.11
    return module


@contextmanager
def _plain_path(file: Path) -> Iterator[str]:
    """A path of the file that Ultralytics leaves alone.

    It drops apostrophes and spaces at the ends, reads yolov5s as yolov5su, and then asks the network for the file that
    it does not find.
    """
    with tempfile.TemporaryDirectory(prefix="trimboard-") as folder:
        link = Path(folder) / "model.pt"
        try:
            link.symlink_to(file.absolute())
        except OSError:  # Windows asks for a right to make links
            shutil.copyfile(file, link)
        yield str(link)


def _check_content(file: Path) -> None:
    """Refuse what is known not to be a checkpoint, or would unpack to far more than the file, before it is loaded."""
    try:
        with file.open("rb") as stream:
            head = stream.read(200)
        archive = zipfile.ZipFile(file) if zipfile.is_zipfile(file) else None
    except OSError as error:
        raise ModelError(f"{str(file)!r} cannot be read ({error.strerror}); check its rights.") from error
    except zipfile.BadZipFile:
        return  # the loader says so
    if not head:
        raise ModelError(f"{str(file)!r} is empty; copy or download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{str(file)!r} is a pointer of Git LFS and not the model; fetch it with `git lfs pull`.")
    if head[:1] == b"\x08" and (b"pytorch" in head or b"onnx" in head):
        raise ModelError(f"{str(file)!r} is an ONNX model; give the .pt that it was exported from.")
    if archive is None:
        return
    with archive:
        entries = archive.infolist()
    if any("/code/" in f"/{entry.filename}" for entry in entries):
        raise ModelError(f"{str(file)!r} is a TorchScript export; give the .pt that it was exported from.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > file.stat().st_size:
        # PyTorch stores without compression.
        raise ModelError(
            f"{str(file)!r} would unpack to {unpacked:,} bytes, more than it has, which no checkpoint does; "
            f"save it again with Ultralytics' YOLO(...).save()."
        )


def _check_storages(module: nn.Module, name: str) -> None:
    """Refuse a tensor that claims more numbers than the file holds of it."""
    for key, tensor in module.state_dict().items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ModelError(
                f"{name!r} holds a damaged tensor {key!r} of {tensor.numel():,} numbers; "
                f"save it again with Ultralytics' YOLO(...).save()."
            )


def _check_numbers(module: nn.Module, name: str) -> None:
    """Refuse weights and BatchNorm statistics that are NaN or infinite."""
    norms = [path for path, each in module.named_modules() if isinstance(each, nn.BatchNorm2d)]
    checked = {path for path, _ in module.named_parameters()}
    checked |= {f"{path}.{part}" for path in norms for part in ("running_mean", "running_var")}
    for key, tensor in module.state_dict().items():
        if key in checked and not tensor.isfinite().all():
            raise ModelError(
                f"{name!r} holds NaN or infinite numbers (first in {key!r}), so its training diverged; "
                f"take an earlier checkpoint, or train it again."
            )


def file_sha256(file: Path) -> str:
    """Sha256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def architecture_of(module: nn.Module) -> str | None:
    """Catalog name of a model's architecture, None where its yaml is not in the catalog."""
    config = getattr(module, "yaml", None) or {}
    name = Path(str(config.get("yaml_file", ""))).stem
    if name in CATALOG:
        return name
    base, dash, variant = name.partition("-")
    with_scale = f"{base}{config.get('scale', '')}{dash}{variant}"
    return with_scale if with_scale in CATALOG else None


def n_channels(module: DetectionModel) -> int:
    """Channels of the images that a model takes, 3 for colour."""
    return n_channels_of(module.yaml)


def n_channels_of(config: dict[str, Any]) -> int:
    """The same, of a model's yaml."""
    # "ch" in checkpoints of Ultralytics before 8.3.
    return int(config.get("channels", config.get("ch", 3)))


def kpt_shape_of(module: DetectionModel) -> tuple[int, int] | None:
    """Number of key points, and of values of each, that a model of poses predicts; None for other models."""
    shape = getattr(module.model[-1], "kpt_shape", None)
    return (int(shape[0]), int(shape[1])) if shape else None


def needs_training(
    detector: Detector,
    nc: int,
    kpt_shape: tuple[int, int] | None = None,
    names: dict[int, str] | None = None,
) -> bool:
    """Whether a model was not trained for a data set: random weights, other classes or key points.

    Args:
        detector: the model.
        nc: number of classes of the data set.
        kpt_shape: its key points, for a model of poses; None for the model's own.
        names: its class names by index, for a classifier, see `same_classes`; None where their number decides.
    """
    other_points = detector.task == "pose" and kpt_shape is not None and kpt_shape != kpt_shape_of(detector.module)
    other_names = names is not None and not same_classes(detector.module, names)
    return detector.file is None or len(detector.module.names) != nc or other_points or other_names


def same_classes(module: DetectionModel, names: dict[int, str]) -> bool:
    """Whether a model's outputs are the classes of a data set.

    Labels within images give an index, so that their number decides. Of a classifier Ultralytics finds each folder's
    output by name, and leaves out images of names that it does not know, so that all names must be alike and in order.

    Args:
        module: the model.
        names: class names of the data set by index.
    """
    if task_of(module) != "classify":
        return len(module.names) == len(names)
    return resolved_names(module.names) == resolved_names(names)


def resolved_names(names: dict[int, str]) -> list[str]:
    """Class names in their order as Ultralytics compares them: codes of ImageNet stand for its names."""
    return list(check_class_names([names[index] for index in sorted(names)]).values())


def with_classes(detector: Detector, names: dict[int, str], kpt_shape: tuple[int, int] | None = None) -> DetectionModel:
    """The model with one output a class; weights that fit are kept, as Ultralytics does before a training.

    Args:
        detector: the model.
        names: class names by index.
        kpt_shape: key points of the data set, for a model of poses; None for its own.

    Raises:
        ModelError: the model was pruned, so that its yaml does not describe it.
    """
    points = kpt_shape_of(detector.module) and (kpt_shape or kpt_shape_of(detector.module))
    if same_classes(detector.module, names) and points == kpt_shape_of(detector.module):
        return detector.module
    if not _is_as_its_yaml(detector.module):
        others = " others" if len(detector.module.names) == len(names) else ""
        raise ModelError(
            f"{detector.label!r} was compressed for {len(detector.module.names)} classes and the data set has "
            f"{len(names)}{others}; compress its original on this data set."
        )
    with torch.random.fork_rng(devices=[]):
        # Weights that do not fit are drawn alike each time.
        torch.manual_seed(0)
        module = _built(copy.deepcopy(detector.module.yaml), type(detector.module), len(names), points)
        # Named before loading: outputs of classes that both know are kept too.
        module.names, module.args = dict(names), detector.module.args
        module.load(detector.module, verbose=False)
    return module.eval()


def is_architecture(model: str) -> bool:
    """Whether a model is asked for by its architecture, with random weights."""
    return model.lower().endswith((".yaml", ".yml"))


def task_asked_for(model: str) -> TaskName:
    """The task of an architecture, without building it.

    Raises:
        ModelError: there is no such architecture, or it is of no task that is known.
    """
    try:
        return _task_in(_config(model))
    except ModelError:
        raise
    except Exception as error:  # whatever reading a file that is no yaml runs into
        raise ModelError(f"{model!r} cannot be read as an architecture: {' '.join(str(error).split())}.") from error


def _config(model: str) -> dict[str, Any]:
    """What the yaml of an architecture says.

    Raises:
        ModelError: there is no such architecture, or its yaml would run code.
    """
    label, path = model_label(model), Path(os.path.expanduser(model))
    own = os.path.isfile(path)
    if not own and (label not in CATALOG or path.name != model):
        raise ModelError(
            f"There is no architecture {model!r}; give the path of a .yaml, or a name that `trimboard models` lists."
        )
    config: dict[str, Any] = yaml_model_load(path if own else f"{label}.yaml")
    _check_config(config, model)
    return config


def _task_in(config: dict[str, Any]) -> TaskName:
    """The task of a yaml by its last block; "detect" for a head that is not known, which is refused then."""
    task = guess_model_task(config)
    return task if task in KINDS else "detect"


def _built(
    config: dict[str, Any], model_type: type[Any], nc: int | None, kpt_shape: tuple[int, int] | None = None
) -> DetectionModel:
    """A model from its yaml, with random weights."""
    # A list: the loss of poses knows those of people by `kpt_shape == [17, 3]`, which a tuple is not.
    points = {"data_kpt_shape": list(kpt_shape)} if kpt_shape and model_type is KINDS["pose"].model else {}
    module: DetectionModel = model_type(config, ch=n_channels_of(config), nc=nc, verbose=False, **points)
    return module


def _from_architecture(model: str, nc: int | None, kpt_shape: tuple[int, int] | None, seed: int) -> Detector:
    label = model_label(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            config = _config(model)
            module = _built(config, KINDS[_task_in(config)].model, nc, kpt_shape)
        except ModelError:
            raise
        except Exception as error:  # Ultralytics' parser raises whatever a wrong yaml runs into
            reason = " ".join(str(error).split())
            raise ModelError(
                f"{model!r} cannot be built as a detector: {reason}; check its blocks and scales."
            ) from error
    _check_detector(module, model)
    module.args = _default_args(module)
    return Detector(
        label=label,
        architecture=architecture_of(module) or label,
        module=module.eval(),
        weights_sha256=None,
        file=None,
        info={},
    )


def _checkpoint_file(model: str) -> Path:
    """A checkpoint's path; catalog weights are downloaded by Ultralytics into the data folder."""
    path = Path(os.path.expanduser(model))
    if os.path.isfile(path):  # the method of a Path raises where a name is too long
        return path
    name = catalog_name(model_label(model))
    if name is None or path.name != model:
        raise ModelError(
            f"There is no model {model!r}; give the path of a .pt or .yaml, or a name that `trimboard models` lists."
        )
    weights = weights_file(name)
    if not weights.is_file() and not is_offered(name):
        raise ModelError(f"Ultralytics offers no weights {model!r}; start from scratch with {name}.yaml.")
    if not weights.is_file():
        _download(weights)
    return weights


def _download(weights: Path) -> None:
    # Imported late: the module asks the network for its reachability.
    from ultralytics.utils.downloads import attempt_download_asset

    weights.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=weights.parent, prefix=".") as folder:
        draft = Path(folder) / weights.name
        try:
            attempt_download_asset(draft)
            draft.replace(weights)
        except Exception as error:  # requests, urllib and Ultralytics each have their own
            raise ModelError(
                f"{weights.name} could not be downloaded; check the network, or put the file at {str(weights)!r}."
            ) from error


def _check_config(config: Any, name: str) -> None:
    """Refuse a yaml that runs code when a model is built from it.

    Ultralytics evaluates the activation as Python and calls whatever a block's name stands for.
    """
    try:
        activation = config.get("activation") or "nn.SiLU()"
        blocks = [block for _, _, block, _ in [*config["backbone"], *config["head"]]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{name!r} does not describe a model; its yaml needs 'backbone' and 'head', "
            f"lists of [from, repeats, block, arguments]."
        ) from error
    if not PLAIN_ACTIVATION.fullmatch(str(activation)):
        raise ModelError(
            f"{name!r} gives its activation as {activation!r}, which is not run; write it like 'nn.LeakyReLU(0.1)'."
        )
    for block in blocks:
        if not _is_layer(str(block)):
            raise ModelError(
                f"{name!r} names a block {block!r}, which is not run; use layers of Ultralytics and torch.nn."
            )


def _is_layer(block: str) -> bool:
    layer = getattr(nn if block.startswith("nn.") else ultralytics_modules, block.removeprefix("nn."), None)
    return isinstance(layer, type) and issubclass(layer, nn.Module)


def _check_detector(module: Any, name: str) -> None:
    kind = type(module)
    if not issubclass(kind, nn.Module):
        raise ModelError(
            f"{name!r} holds no model (weights without their layers are not enough); "
            f"save it again with Ultralytics' YOLO(...).save()."
        )
    # Models of further tasks and of open vocabularies, and their heads, are subclasses.
    if all(kind is not known.model for known in KINDS.values()):
        raise ModelError(f"{name!r} holds a model of class {kind.__name__}; {_ONLY}.")
    last, heads = module.model[-1], KINDS[task_of(module)].heads
    if type(last) not in heads:
        raise ModelError(f"{name!r} ends in {type(last).__name__}, not in {heads[0].__name__}; {_ONLY}.")


def _is_as_its_yaml(module: DetectionModel) -> bool:
    """Whether building the model from its yaml gives the same shapes, so that no channel was ever removed."""
    rebuilt = _built(copy.deepcopy(module.yaml), type(module), len(module.names), kpt_shape_of(module))
    # Loading widens the class branches to those of the model: they stay as wide as for the classes it had at first.
    rebuilt.load(module, verbose=False)
    shapes, own = rebuilt.state_dict(), module.state_dict()
    if getattr(module.model[-1], "one2one_cv2", None) is None:
        # Fusing may have taken the end-to-end head that the yaml describes.
        shapes = {name: tensor for name, tensor in shapes.items() if ".one2one_" not in name}
    return shapes.keys() == own.keys() and all(shapes[name].shape == own[name].shape for name in own)
