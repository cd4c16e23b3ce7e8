"""Whether a value from elsewhere has the types that its dataclass declares: Python itself does not look."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def misfit(value: Any, declared: Any, name: str = "") -> str | None:
    """The path of the first part that is of another type, as "metrics.map50"; None where all fit.

    Args:
        value: as it was read; a dataclass is looked into.
        declared: its type; dataclasses, str, int, float, None, literals, unions of them, tuples of one type and dicts.
        name: where the value stands.
    """
    origin, parts = get_origin(declared), get_args(declared)
    if origin in (Union, UnionType):
        return None if any(misfit(value, part) is None for part in parts) else name
    if origin is Literal:
        return None if value in parts else name
    if origin is tuple:
        return _first(value, parts[0], name) if isinstance(value, tuple) else name
    if origin is dict:
        if not isinstance(value, dict):
            return name
        return _first(value, parts[0], name) or _first(value.values(), parts[1], name)
    if is_dataclass(declared):
        if not isinstance(value, declared):  # type: ignore[arg-type]
            return name
        hints = get_type_hints(declared)
        found = (
            misfit(getattr(value, field.name), hints[field.name], f"{name}.{field.name}") for field in fields(value)
        )
        return next((path.removeprefix(".") for path in found if path is not None), None)
    if declared is float:
        return None if isinstance(value, int | float) and not isinstance(value, bool) else name
    if declared is int:
        return None if isinstance(value, int) and not isinstance(value, bool) else name
    return None if isinstance(value, NoneType if declared is None else declared) else name


def _first(values: Any, declared: Any, name: str) -> str | None:
    found = (misfit(value, declared, name) for value in values)
    return next((path for path in found if path is not None), None)
