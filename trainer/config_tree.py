"""Frozen dataclasses of settings from and to plain mappings, as YAML holds them.

    settings = from_mapping(TrainConfig, {"preset": "mine", "seed": 3, ...})
    with_override(mapping, "cold_start.steps=100", TrainConfig)

Every wrong key or value raises `SettingsError` with its dotted name, what it may be, and the nearest known name.
"""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

Settings = TypeVar("Settings")


class SettingsError(ValueError):
    """A setting that is unknown, missing or out of range; the message names it."""


def from_mapping(cls: type[Settings], values: Any, where: str = "") -> Settings:
    """The dataclass `cls` with these values; what is not given keeps its default.

    Args:
        where: dotted name of the place of `values`, for messages.

    Raises:
        SettingsError: an unknown or missing setting, or a value of the wrong kind or out of its bounds.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where or 'the settings'} must be a mapping of names to values, not {values!r}")
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    for name in values:
        _check_known(str(name), cls, where)
    given = {str(name): _converted(hints[str(name)], value, _dotted(where, str(name))) for name, value in values.items()}
    try:
        return cls(**given)
    except TypeError as error:
        missing = [name for name in _required(cls) if name not in given]
        if not missing:
            raise
        raise SettingsError(f"{where or 'the settings'} must say: {', '.join(missing)}") from error
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"{where}: {error}" if where else str(error)) from error


def to_mapping(settings: Any) -> Any:
    """The settings as plain values: mappings, lists, numbers, texts."""
    if is_dataclass(settings):
        return {field.name: to_mapping(getattr(settings, field.name)) for field in fields(settings)}
    return [to_mapping(value) for value in settings] if isinstance(settings, (tuple, list)) else settings


def with_override(values: Mapping[str, Any], override: str, cls: type) -> dict[str, Any]:
    """A copy of a mapping with one setting changed; `override` is "dotted.name=value", the value as YAML.

    Raises:
        SettingsError: not of that form, or no such setting of `cls`.
    """
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise SettingsError(f"{override!r} is no override; write a name, = and a value, such as cold_start.steps=100")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"the value of {name} can't be read: {text!r}") from error
    return _put(values, name.strip().split("."), value, cls, "")


def _put(values: Mapping[str, Any], path: list[str], value: Any, cls: type, where: str) -> dict[str, Any]:
    name, *rest = path
    _check_known(name, cls, where)
    if not rest:
        return {**values, name: value}
    inner = _dataclass_in(_hints(cls)[name])
    if inner is None:
        raise SettingsError(f"{_dotted(where, name)} is a single value and has no {'.'.join(rest)}")
    return {**values, name: _put(values.get(name) or {}, rest, value, inner, _dotted(where, name))}


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _required(cls: type) -> list[str]:
    return [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]


def _check_known(name: str, cls: type, where: str) -> None:
    known = [field.name for field in fields(cls)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise SettingsError(f"unknown setting {_dotted(where, name)}; {hint}")


def _dotted(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _dataclass_in(hint: Any) -> type | None:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((option for option in options if isinstance(option, type) and is_dataclass(option)), None)


def _converted(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type of its field."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = (option for option in get_args(hint) if option is not type(None))
        return _converted(hint, value, where)
    if is_dataclass(hint):
        return from_mapping(hint, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in get_args(hint):
            raise SettingsError(f"{where} must be one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SettingsError(f"{where} must be a list, not {value!r}")
        return tuple(_converted(get_args(hint)[0], one, where) for one in value)
    return _plain(hint, value, where)


def _plain(kind: type, value: Any, where: str) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float and isinstance(value, str):  # YAML 1.1 takes 1e-6, without a point, for a text
        try:
            value, is_number = float(value), True
        except ValueError:
            is_number = False
    if kind is float and is_number and math.isfinite(value):
        return float(value)
    if kind is int and is_number and value == int(value):
        return int(value)
    if kind in (bool, str) and isinstance(value, kind):
        return value
    names = {float: "a finite number", int: "a whole number", bool: "true or false", str: "a text"}
    raise SettingsError(f"{where} must be {names[kind]}, not {value!r}")
