"""Which channels run where: a forward pass in which every feature map knows the channels it is made of.

Each channel that a convolution gives is an item. Operations hand the items on: an activation or a pooling keeps them, a
concatenation puts them side by side, a sum makes items of both terms one. Layers note the items that they give and
take. Whatever is not understood locks the items that it reads, so that an operation that nobody foresaw costs a few
channels that could have gone, and never a wrong result. The pass costs what a forward pass does, whatever the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from compression.errors import ModelError

Side = Literal["in", "out"]
Indices = NDArray[np.int64]

# Images of the trace are small and models are finite: what takes longer, or more in one piece, goes astray.
TIME_LIMIT_S = 60.0
MEMORY_LIMIT = 1024**3

CHANNEL_DIM = 1
# A feature map is [B, C, H, W]; seen from behind its channels are the third.
MAP_DIMS = 4
CHANNEL_DIM_FROM_BEHIND = -3

IMAGE = "the channels of the image"
UNKNOWN_SOURCE = "beside channels that cannot be followed"

aten = torch.ops.aten

# What treats each channel by itself, and all alike.
KEEPING = {
    *(aten.silu, aten.relu, aten.sigmoid, aten.hardswish, aten.hardsigmoid, aten.hardtanh, aten.leaky_relu, aten.gelu),
    *(aten.elu, aten.mish, aten.tanh, aten.softplus, aten.clamp, aten.clamp_min, aten.clamp_max, aten.neg, aten.abs),
    *(aten.silu_, aten.relu_, aten.sigmoid_, aten.hardswish_, aten.hardsigmoid_, aten.hardtanh_, aten.leaky_relu_),
    *(aten.elu_, aten.mish_, aten.tanh_, aten.clamp_, aten.clamp_min_, aten.clamp_max_),
    *(aten.max_pool2d_with_indices, aten.avg_pool2d, aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d),
    *(aten.upsample_nearest2d, aten._upsample_nearest_exact2d, aten.upsample_bilinear2d, aten.upsample_bicubic2d),
    *(aten.selu, aten.selu_, aten.celu, aten.celu_, aten.log_sigmoid_forward),
    *(aten.reflection_pad2d, aten.replication_pad2d, aten.clone, aten.detach, aten.alias, aten._to_copy),
}
JOINING = {
    *(aten.add, aten.sub, aten.mul, aten.div, aten.maximum, aten.minimum),
    *(aten.add_, aten.sub_, aten.mul_, aten.div_),
}


class ChannelTracer(TorchDispatchMode):
    """Follows channels through whatever runs while it is entered.

    Args:
        model: what will run; its convolutions, BatchNorms and linear layers are told by their weights.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.members: dict[tuple[str, Side], Indices] = {}
        self.parted: list[tuple[Indices, ...]] = []
        owners = owners_of_weights(model)
        self._layers = {weight: found[0] for weight, found in owners.items()}
        # Whose weights are those of others too, so that what runs does not tell which of them it is.
        self._sharing = {weight: found for weight, found in owners.items() if len(found) > 1}
        self._items = WeakTensorKeyDictionary()
        # Transposed weights of linear layers, as matrix products read them.
        self._transposed = WeakTensorKeyDictionary()
        self._one_with: list[int] = []
        self._reasons: dict[int, str] = {}
        self._paused = False
        self._deadline = time.monotonic() + TIME_LIMIT_S

    # What stand-ins say

    def lock(self, tensor: Tensor, reason: str) -> None:
        """The channels of a feature map must stay."""
        if not self._paused:
            self._lock(self._items_of(tensor), reason)

    def tie(self, *parts: Tensor) -> None:
        """Of each of these feature maps equally many channels must stay."""
        if not self._paused:
            self.parted.append(tuple(self._items_of(part) for part in parts))

    def couple(self, one: Tensor, other: Tensor) -> None:
        """Each channel of one feature map goes only together with that of the other at its place."""
        if not self._paused:
            self._unite(self._items_of(one), self._items_of(other))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is followed meanwhile."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def source(self, tensor: Tensor, reason: str) -> None:
        """A feature map comes from somewhere that is not followed: its channels must stay."""
        if not self._paused:
            self._set(tensor, self._new(tensor.shape[CHANNEL_DIM], reason))

    # What was found

    def classes(self, items: Indices) -> Indices:
        """For each item a number that it shares with all items that are one with it."""
        return np.array([self._root(item) for item in items.tolist()], dtype=np.int64)

    def reasons(self) -> dict[int, str]:
        """Why the items of a class must stay, by the number of the class; free classes are left out."""
        found: dict[int, str] = {}
        for item, reason in self._reasons.items():
            found.setdefault(self._root(item), reason)
        return found

    # The pass

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self._check_limits(out)
        if not self._paused:
            self._follow(func.overloadpacket, args, kwargs or {}, out)
        return out

    def _check_limits(self, out: Any) -> None:
        if time.monotonic() > self._deadline:
            raise ModelError(
                f"Following the channels of this model took longer than {TIME_LIMIT_S:g} s and was given up; "
                f"a block that takes so long on a small image cannot be pruned."
            )
        if isinstance(out, Tensor) and out.element_size() * out.numel() > MEMORY_LIMIT:
            raise ModelError(
                f"Following the channels of this model met a tensor of shape {tuple(out.shape)}, over "
                f"{MEMORY_LIMIT >> 20} MiB, and was given up; a block that takes so much on a small image cannot be "
                f"pruned."
            )

    def _follow(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        if operation is aten.convolution:
            self._convolve(args[0], args[1], out)
        elif operation in (aten.native_batch_norm, aten._native_batch_norm_legit_no_training, aten.cudnn_batch_norm):
            self._normalise(args[0], args[3] if args[1] is None else args[1], out[0])
        elif operation is aten.t and id(args[0]) in self._layers:
            self._transposed[out] = args[0]
        elif operation in (aten.addmm, aten.mm) and args[-1] in self._transposed:
            self._multiply(args[-2], self._transposed[args[-1]], out)
        elif operation in KEEPING or self._keeps(operation, args):
            self._hand_on(args[0], out)
        elif operation in JOINING:
            self._join(args, out)
        elif operation is aten.cat and self._on_channels(args, kwargs):
            self._set(out, np.concatenate([self._items_of(part) for part in args[0]]))
        elif operation in (aten.split, aten.split_with_sizes) and self._on_channels(args[1:], kwargs):
            self._split(args[0], out, equal=operation is aten.split)
        elif operation is aten.slice and self._is_known(args[0]):
            self._slice(args, kwargs, out)
        else:
            name = str(operation).removeprefix("aten.")
            for tensor in _tensors((args, kwargs)):
                if self._is_known(tensor):
                    self.lock(tensor, f"the operation {name!r} is not followed")

    def _keeps(self, operation: Any, args: tuple[Any, ...]) -> bool:
        if operation is aten.constant_pad_nd:
            return len(args[1]) <= 2 * (MAP_DIMS - 1 - CHANNEL_DIM)  # pairs, from the last dimension on
        if operation is aten._prelu_kernel:
            return args[1].numel() == 1
        if operation is aten.mean:
            return len(args) > 2 and args[2] and {each % MAP_DIMS for each in args[1] or ()} <= {2, 3}
        if operation in (aten.view, aten._unsafe_view):
            # One number a channel, as a pooling leaves it.
            return args[0].dim() == MAP_DIMS and args[0].shape[:2] == torch.Size(args[1])
        return False

    @staticmethod
    def _on_channels(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        tensors = list(_tensors(args[:1]))
        return dim in (CHANNEL_DIM, CHANNEL_DIM_FROM_BEHIND) and all(each.dim() == MAP_DIMS for each in tensors)

    def _convolve(self, x: Tensor, weight: Tensor, out: Tensor) -> None:
        name, layer = self._layers.get(id(weight), (None, None))
        if name is None or layer is None or x.dim() != MAP_DIMS:
            if self._is_known(x):
                self.lock(x, "a convolution with weights of its own is not followed")
            return
        if id(weight) in self._sharing:
            self._share(x, weight, out)
            return
        items = self._items_of(x)
        if isinstance(layer, nn.Conv2d) and is_depthwise(layer):
            self._note(name, "out", items)
            self._set(out, items)
            return
        self._note(name, "in", items)
        given = self.members.get((name, "out"))
        self._note(name, "out", self._new(out.shape[CHANNEL_DIM]) if given is None else given)
        self._set(out, self.members[name, "out"])

    def _multiply(self, x: Tensor, weight: Tensor, out: Tensor) -> None:
        if id(weight) in self._sharing:
            self._share(x, weight, out)
            return
        name, _ = self._layers[id(weight)]
        self._note(name, "in", self._items_of(x))
        given = self.members.get((name, "out"))
        self._note(name, "out", self._new(out.shape[CHANNEL_DIM]) if given is None else given)
        self._set(out, self.members[name, "out"])

    def _share(self, x: Tensor, weight: Tensor, out: Tensor) -> None:
        """Layers with the same weights read and give this; the channels of all of them must stay."""
        reason = self._shared_by(weight)
        self.lock(x, reason)
        for name, layer in self._sharing[id(weight)]:
            if (name, "out") not in self.members:
                self.members[name, "out"] = self._new(channels_out(layer), reason)
            if channels_out(layer) == out.shape[CHANNEL_DIM]:
                self._set(out, self.members[name, "out"])

    def _shared_by(self, weight: Tensor) -> str:
        first, *others = (name for name, _ in self._sharing[id(weight)])
        return f"{', '.join(others)} and {first} share their weights"

    def _normalise(self, x: Tensor, weight: Tensor | None, out: Tensor) -> None:
        name, _ = self._layers.get(id(weight), (None, None))
        items = self._items_of(x)
        if weight is not None and id(weight) in self._sharing:
            self._lock(items, self._shared_by(weight))
        elif name is None:
            self._lock(items, "a normalisation without weights is not followed")
        else:
            self._note(name, "out", items)
        self._set(out, items)

    def _hand_on(self, x: Tensor, out: Any) -> None:
        if self._is_known(x):
            self._set(out[0] if isinstance(out, tuple) else out, self._items_of(x))

    def _join(self, args: tuple[Any, ...], out: Tensor) -> None:
        terms = [each for each in args if isinstance(each, Tensor)]
        if not any(self._is_known(each) for each in terms):
            return
        maps = [each for each in terms if each.dim() == MAP_DIMS]
        if not maps:
            for each in filter(self._is_known, terms):
                self.lock(each, "numbers that are no feature map")
            return
        widest = max(maps, key=lambda each: each.shape[CHANNEL_DIM])
        items = self._items_of(widest)
        for other in (each for each in terms if each is not widest):
            width = other.shape[CHANNEL_DIM_FROM_BEHIND] if other.dim() >= -CHANNEL_DIM_FROM_BEHIND else 1
            if width > 1 and other.dim() == MAP_DIMS:
                self._unite(items, self._items_of(other))
            elif width > 1:
                self._lock(items, "a number for each channel that is no layer's")
        self._set(out, items)

    def _split(self, x: Tensor, out: Sequence[Tensor], *, equal: bool) -> None:
        if not self._is_known(x):
            return
        items, start = self._items_of(x), 0
        parts = []
        for part in out:
            width = part.shape[CHANNEL_DIM]
            parts.append(items[start : start + width])
            self._set(part, parts[-1])
            start += width
        if len({len(part) for part in parts}) == 1:
            self.parted.append(tuple(parts))
        elif equal:
            self._lock(items, "chunks of unequal width")

    def _slice(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
        given = dict(zip(("x", "dim", "start", "end", "step"), args, strict=False)) | kwargs
        items = self._items_of(given["x"])
        if given.get("dim", 0) in (CHANNEL_DIM, CHANNEL_DIM_FROM_BEHIND):
            items = items[slice(given.get("start"), given.get("end"), given.get("step", 1))]
        self._set(out, items)

    # Items

    def _is_known(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor) and tensor in self._items

    def _items_of(self, tensor: Tensor) -> Indices:
        if tensor not in self._items:
            self.source(tensor, UNKNOWN_SOURCE)
        return self._items[tensor]

    def _set(self, tensor: Tensor, items: Indices) -> None:
        self._items[tensor] = items

    def _new(self, n_items: int, reason: str | None = None) -> Indices:
        items = np.arange(len(self._one_with), len(self._one_with) + n_items)
        self._one_with.extend(items.tolist())
        if reason is not None:
            self._lock(items, reason)
        return items

    def _note(self, name: str, side: Side, items: Indices) -> None:
        before = self.members.setdefault((name, side), items)
        if before is not items:
            self._unite(before, items)  # a layer that runs twice

    def _lock(self, items: Indices, reason: str) -> None:
        for item in items.tolist():
            self._reasons.setdefault(item, reason)

    def _unite(self, ours: Indices, theirs: Indices) -> None:
        for one, other in zip(ours.tolist(), theirs.tolist(), strict=True):
            first, second = sorted((self._root(one), self._root(other)))
            self._one_with[second] = first

    def _root(self, item: int) -> int:
        while self._one_with[item] != item:
            self._one_with[item] = self._one_with[self._one_with[item]]
            item = self._one_with[item]
        return item


def owners_of_weights(model: nn.Module) -> dict[int, list[tuple[str, nn.Module]]]:
    """The convolutions, BatchNorms and linear layers of a model with their names, by the `id` of their weights.

    A BatchNorm without a scale is told by its mean; one that has neither is left out.
    """
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d | nn.Linear):
            told_by = _told_by(layer)
            if told_by is not None:
                owners.setdefault(id(told_by), []).append((name, layer))
    return owners


def _told_by(layer: nn.Module) -> Tensor | None:
    """What an operation reads of a layer, and of no other one."""
    weight: Tensor | None = getattr(layer, "weight", None)
    return getattr(layer, "running_mean", None) if weight is None else weight


def channels_out(layer: nn.Module) -> int:
    """Output channels of a convolution or a linear layer."""
    count = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    assert isinstance(count, int)
    return count


def channels_in(layer: nn.Module) -> int:
    """Input channels of the same."""
    count = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    assert isinstance(count, int)
    return count


def is_depthwise(conv: nn.Conv2d | nn.Linear) -> bool:
    """Whether each output channel reads one input channel of its own."""
    return isinstance(conv, nn.Conv2d) and conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def opaque_forward(forward: Callable[..., Any], channels: ChannelTracer, reason: str) -> Callable[..., Any]:
    """A block's own forward, of which nothing is followed: what it reads and gives must stay."""

    def run(*args: Any, **kwargs: Any) -> Any:
        for tensor in _tensors((args, kwargs)):
            if tensor.dim() == MAP_DIMS:
                channels.lock(tensor, reason)
        with channels.paused():
            out = forward(*args, **kwargs)
        for tensor in _tensors(out):
            if tensor.dim() == MAP_DIMS:
                channels.source(tensor, reason)
        return out

    return run
