"""Frozen dataclasses of settings from and to plain mappings, as YAML holds them.

    config = from_mapping(TrainConfig, mapping)      # {"preset": "mine", "seed": 3, ...}
    with_override(mapping, "cold_start.steps=100", TrainConfig)

Every wrong key or value raises `ConfigError` with its dotted name, the values that it may have, and the nearest known name.

A setting that was renamed is read under its old name too: `field(metadata={OLD_NAME: "pairs_per_pass"})`.
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

Config = TypeVar("Config")

OLD_NAME = "old_name"


class ConfigError(ValueError):
    """A setting that is unknown, missing or out of range; the message names it."""


def from_mapping(cls: type[Config], values: Any, where: str = "") -> Config:
    """Build the dataclass `cls` from these values; a setting that is not given keeps its default.

    Args:
        where: dotted name of the setting that holds `values`, for messages.

    Raises:
        ConfigError: an unknown or missing setting, or a value of the wrong kind or out of its bounds.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or 'the settings'} must be a mapping of names to values, not {values!r}")
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    given: dict[str, Any] = {}
    for key, value in values.items():
        name = _field_name(str(key), cls, where)
        if name in given:
            raise ConfigError(f"{_dotted(where, name)} is given twice, as {name} and under its old name")
        given[name] = _converted(hints[name], value, _dotted(where, name))
    try:
        return cls(**given)
    except TypeError as error:
        missing = [name for name in _required(cls) if name not in given]
        if not missing:
            raise
        raise ConfigError(f"{where or 'the settings'} must say: {', '.join(missing)}") from error
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error


def to_mapping(config: Any) -> Any:
    """Turn settings into plain values: mappings, lists, numbers, texts."""
    if is_dataclass(config):
        return {field.name: to_mapping(getattr(config, field.name)) for field in fields(config)}
    return [to_mapping(value) for value in config] if isinstance(config, (tuple, list)) else config


def with_override(values: Mapping[str, Any], override: str, cls: type[Any]) -> dict[str, Any]:
    """Copy a mapping with one setting changed; `override` is "dotted.name=value", the value as YAML.

    Raises:
        ConfigError: the override has another form, or `cls` has no such setting.
    """
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"{override!r} is no override; write a name, = and a value, such as cold_start.steps=100")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of {name} can't be read: {text!r}") from error
    return _with_value(values, name.strip().split("."), value, cls, "")


def _with_value(values: Mapping[str, Any], path: list[str], value: Any, cls: type[Any], where: str) -> dict[str, Any]:
    first, *rest = path
    name = _field_name(first, cls, where)
    renamed = {_field_name(str(key), cls, where): kept for key, kept in values.items()}
    if not rest:
        return {**renamed, name: value}
    inner = _dataclass_in(_hints(cls)[name])  # type: ignore[arg-type]
    if inner is None:
        raise ConfigError(f"{_dotted(where, name)} is a single value and has no {'.'.join(rest)}")
    return {**renamed, name: _with_value(renamed.get(name) or {}, rest, value, inner, _dotted(where, name))}


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def _required(cls: Any) -> list[str]:
    return [field.name for field in fields(cls) if field.default is MISSING and field.default_factory is MISSING]


def _field_name(key: str, cls: Any, where: str) -> str:
    """Find the field of `cls` that has this name, or had it."""
    names = [field.name for field in fields(cls)]
    if key in names:
        return key
    old_names = {field.metadata[OLD_NAME]: field.name for field in fields(cls) if OLD_NAME in field.metadata}
    if key in old_names:
        return old_names[key]
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
    raise ConfigError(f"unknown setting {_dotted(where, key)}; {hint}")


def _dotted(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _dataclass_in(hint: Any) -> type[Any] | None:
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
            raise ConfigError(f"{where} must be one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, not {value!r}")
        return tuple(_converted(get_args(hint)[0], item, where) for item in value)
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
    raise ConfigError(f"{where} must be {names[kind]}, not {value!r}")
