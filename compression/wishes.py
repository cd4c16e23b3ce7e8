"""What is wished of single layers: that they keep all of their channels, or a stated part or number of them.

Layers are called as the heatmap shows them. Which others go with them is known to `compression.graph.layer_groups`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compression.errors import SpecError

ALL = 1.0
# More wishes than these are counted in a name, not told.
TOLD = 3


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How many output channels one layer keeps.

    Attributes:
        layer: its path, as the heatmap shows it: "model.4.cv1".
        kept: a part of its channels up to 1, which stands for all of them; above 1 a number of channels.
    """

    layer: str
    kept: float

    def __post_init__(self) -> None:
        # 32 and 32.0 are the same wish, and have one form in a key.
        object.__setattr__(self, "kept", float(self.kept))
        possible = math.isfinite(self.kept) and self.kept > 0 and (self.kept <= ALL or self.kept.is_integer())
        if not possible:
            raise SpecError(
                f"{self.layer} cannot keep {self.kept:g} of its channels; give a part up to 1, or a whole number of "
                f"channels above it."
            )

    @property
    def locks(self) -> bool:
        """Whether the layer keeps all of its channels."""
        return self.kept == ALL

    @property
    def amount(self) -> str:
        """What is kept, in words: "all channels", "50%", "32 channels"."""
        if self.locks:
            return "all channels"
        return f"{100 * self.kept:g}%" if self.kept < ALL else f"{self.kept:g} channels"

    @property
    def number(self) -> str:
        """What is kept, as it is typed; the shortest text that gives the same number again."""
        return str(int(self.kept)) if self.kept.is_integer() else repr(self.kept)


def settled(wishes: Iterable[Wish]) -> tuple[Wish, ...]:
    """Wishes by name, each once, so that equal ones have one form.

    Raises:
        SpecError: two of them contradict each other.
    """
    by_layer: dict[str, Wish] = {}
    for wish in wishes:
        other = by_layer.setdefault(wish.layer, wish)
        if other != wish:
            raise SpecError(f"{wish.layer} is to keep {other.amount} and {wish.amount}; ask for one of both.")
    return tuple(by_layer[layer] for layer in sorted(by_layer))


def parse_wishes(locked: Sequence[str], layers: Sequence[str]) -> tuple[Wish, ...]:
    """Wishes as they are typed.

    Args:
        locked: lists of layers that keep all channels, "model.0,model.1".
        layers: lists of layers with what they keep, "model.4.cv1=0.5,model.6.cv1=32"; "50%" is 0.5.

    Raises:
        SpecError: one is not understood, or two contradict each other.
    """
    found = [Wish(layer=name, kept=ALL) for name in _parts(locked)]
    return settled([*found, *(_parse(text) for text in _parts(layers))])


def _parts(texts: Sequence[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _parse(text: str) -> Wish:
    layer, _, kept = (part.strip() for part in text.partition("="))
    try:
        number = float(kept.removesuffix("%")) / (100 if kept.endswith("%") else 1)
    except ValueError:
        number = None
    if kept.endswith("%") and number is not None and number > 1:
        raise SpecError(f"--layer {text!r} asks for more than the layer has; give at most 100%.")
    if number is None or not layer:
        raise SpecError(
            f"--layer {text!r} is not understood; name a layer and what it keeps, as in model.4.cv1=0.5 for half of "
            f"its channels or model.4.cv1=32 for so many."
        )
    return Wish(layer=layer, kept=number)


def locked_argument(wishes: Iterable[Wish]) -> str:
    """The layers that are locked, as `parse_wishes` takes them; "" where there are none."""
    return ",".join(wish.layer for wish in wishes if wish.locks)


def layers_argument(wishes: Iterable[Wish]) -> str:
    """The others, likewise."""
    return ",".join(f"{wish.layer}={wish.number}" for wish in wishes if not wish.locks)


def in_words(wishes: Sequence[Wish]) -> str:
    """All wishes, within a sentence: "model.0 locked, model.4.cv1 keeps 50%"."""
    return ", ".join(f"{wish.layer} {'locked' if wish.locks else f'keeps {wish.amount}'}" for wish in wishes)


def in_short(wishes: Sequence[Wish]) -> str:
    """The same where they are few; else their number."""
    return in_words(wishes) if len(wishes) <= TOLD else f"{len(wishes)} layers as wished"
