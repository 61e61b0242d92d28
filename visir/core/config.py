"""Settings: YAML to frozen dataclasses and back, strictly, and overrides from the command line."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import io
import math
import re
import textwrap
import tokenize
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin

import yaml

from visir.core.names import shown
from visir.core.types import InputError
from visir.core.yaml_file import INVALID

T = TypeVar("T")
Kind: TypeAlias = object  # a type expression, as fields are annotated with
Value: TypeAlias = Any  # whatever YAML can hold

_SPELT: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known word, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word[:100], known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"


def from_mapping(cls: type[T], mapping: object, where: str) -> T:
    """Build the dataclass `cls` from what a YAML file held.

    Args:
        cls: a dataclass whose fields are int, float, bool, str, Literal, tuple, optional,
            dataclasses of these, or Any, which is taken as it stands.
        mapping: keys to values; keys that are left out keep their defaults.
        where: the file (and section) the values came from, for messages.

    Raises:
        InputError: an unknown or missing key, or a value of the wrong type.
    """
    if not isinstance(mapping, Mapping):
        raise InputError(f"{where}: expected keys and values, got {shown(mapping)}")
    kinds = _kinds(cls)
    for key in mapping:
        if key not in kinds:
            raise InputError(f"{where}: unknown key {shown(key)}; {did_you_mean(str(key), kinds)}")
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in mapping and _has_no_default(field):
            raise InputError(f"{where}: key {field.name!r} is missing; add it")
    return cls(**{key: _read(value, kinds[key], where, key) for key, value in mapping.items()})


def to_mapping(config: object) -> dict[str, Value]:
    """The plain values of a dataclass, ready for YAML: the inverse of `from_mapping`."""
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)  # type: ignore[arg-type]
    }


def apply(config: T, overrides: Iterable[str] | Mapping[str, str], where: str = "--set") -> T:
    """A copy of the dataclass `config` with some fields replaced by text from the command line.

    Args:
        config: the settings to start from.
        overrides: ``key=value`` words or a mapping; ``outer.inner`` reaches a nested dataclass.
        where: what to call the source in messages.

    Raises:
        InputError: a word without ``=``, an unknown key, or a value of the wrong type.
    """
    pairs = overrides if isinstance(overrides, Mapping) else parse_pairs(overrides, where)
    for key, text in pairs.items():
        config = _replace(config, key, text, where)
    return config


def parse_pairs(words: Iterable[str], where: str = "--set") -> dict[str, str]:
    """Split ``key=value`` words; of a key given twice the later value holds."""
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise InputError(f"{where}: expected key=value, got {word!r}")
        pairs[key] = value
    return pairs


def dump_yaml(mapping: Mapping[str, Value]) -> str:
    """The YAML text of plain values, keys in the order given."""
    plain = dict(mapping)
    text = yaml.safe_dump(plain, sort_keys=False, width=100, allow_unicode=True)
    if re.search("[\\x85\\u2028\\u2029]", text):  # PyYAML reads these back as spaces
        text = yaml.safe_dump(plain, sort_keys=False, width=100)
    return text


def dump_commented(config: object) -> str:
    """The YAML text of a dataclass, a line a field, with the comment behind the field's default.

    Where a value is not the default, the line names it: a source in brackets is the default's.
    """
    comments: dict[str, str] = {}
    for kind in reversed(type(config).__mro__[:-1]):
        owner = "" if kind is type(config) else f"{_owner(kind)}: "
        found = _comments(kind)
        comments |= {name: comment.replace("[", f"[{owner}") for name, comment in found.items()}
    defaults = {
        field.name: _plain(field.default)
        for field in dataclasses.fields(config)  # type: ignore[arg-type]
    }
    lines = []
    for key, value in to_mapping(config).items():
        # A scalar alone is a YAML document, which ends in dots.
        text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n")
        notes = [comments[key]] if key in comments else []
        if value != defaults[key] and defaults[key] is not dataclasses.MISSING:
            notes.append(f"default {defaults[key]}")
        lines.append(f"{key}: {text.strip()}{'  # ' + '; '.join(notes) if notes else ''}\n")
    return "".join(lines)


def _comments(cls: type) -> dict[str, str]:
    """The comments of a dataclass's fields, wherever they are in the lines of the field."""
    source = textwrap.dedent(inspect.getsource(cls))
    said = {
        token.start[0]: token.string.removeprefix("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    found = {}
    for field in body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            lines = range(field.lineno, (field.end_lineno or field.lineno) + 1)
            found[field.target.id] = " ".join(said[line] for line in lines if line in said)
    return {name: comment for name, comment in found.items() if comment}


def _owner(cls: type) -> str:
    """The method a dataclass belongs to: its module, or the package of `visir.methods` it is in."""
    names = cls.__module__.split(".")
    return names[2] if names[:2] == ["visir", "methods"] else names[-1]


def _kinds(cls: type) -> dict[str, Kind]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _plain(value: object) -> Value:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _inner(kind: Kind) -> Kind:
    """`X` for ``X | None``, None for anything else."""
    if get_origin(kind) not in (typing.Union, types.UnionType):
        return None
    rest = [arg for arg in get_args(kind) if arg is not type(None)]
    return rest[0] if len(rest) == 1 else None


def _read(value: Value, kind: Kind, where: str, key: str) -> Value:
    """`value` as `kind`, or an InputError that names the place."""
    inner = _inner(kind)
    if inner is not None:
        return None if value is None else _read(value, inner, where, key)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return from_mapping(kind, value, f"{where}: {key}")  # type: ignore[arg-type]
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        args = get_args(kind)
        items = (args[0],) * len(value) if args[-1] is Ellipsis else args
        if len(items) == len(value):
            return tuple(_read(v, k, where, key) for v, k in zip(value, items, strict=True))
    elif get_origin(kind) is dict and isinstance(value, Mapping):
        keys, values = get_args(kind)
        return {_read(k, keys, where, key): _read(v, values, where, key) for k, v in value.items()}
    elif get_origin(kind) is Literal:
        # 1 == True: compare the type too
        if any(value == choice and type(value) is type(choice) for choice in get_args(kind)):
            return value
    elif kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        number = _number(value)
        if number is not None:
            return number
    elif type(value) is kind:
        return value
    hint = f"; {did_you_mean(value, map(str, get_args(kind)))}" if _is_typo(value, kind) else ""
    raise InputError(f"{where}: {key} must be {_spell(kind)}, got {shown(value)}{hint}")


def _is_typo(value: object, kind: Kind) -> bool:
    words = map(str, get_args(kind)) if get_origin(kind) is Literal else ()
    return isinstance(value, str) and bool(difflib.get_close_matches(value, words))


def _number(value: int | float | str) -> float | None:
    """YAML 1.1 reads ``1e-3`` as text; nan, infinity and overflows are refused."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _spell(kind: Kind) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(kind))
    if get_origin(kind) is tuple:
        args = get_args(kind)
        if args[-1] is Ellipsis:
            return f"a list, each entry {_spell(args[0])}"
        return f"a list of {len(args)} ({', '.join(map(_spell, args))})"
    return _SPELT.get(kind, str(kind))


def _replace(config: T, key: str, text: str, where: str) -> T:
    """`config` with the field at the dotted `key` read from `text`."""
    head, _, tail = key.partition(".")
    kinds = _kinds(type(config))
    if head not in kinds:
        raise InputError(f"{where}: unknown key {head!r}; {did_you_mean(head, kinds)}")
    old = getattr(config, head)
    if dataclasses.is_dataclass(old) and not isinstance(old, type):
        if not tail:
            inner = ", ".join(f"{head}.{name}" for name in _kinds(type(old)))
            raise InputError(f"{where}: {head} is a group; set one of {inner}")
        value: Value = _replace(old, tail, text, f"{where}: {head}")
    elif tail:
        raise InputError(f"{where}: {head} is one value; write {head}={text}")
    else:
        value = _read(_parse(text, kinds[head], where, head), kinds[head], where, head)
    return dataclasses.replace(config, **{head: value})  # type: ignore[type-var]


def _parse(text: str, kind: Kind, where: str, key: str) -> Value:
    """Command-line text as a YAML value; text fields and choices are taken as they stand."""
    inner = _inner(kind)
    if inner is not None:
        return None if text.lower() in ("none", "null") else _parse(text, inner, where, key)
    if kind is str or (get_origin(kind) is Literal and text in get_args(kind)):
        return text
    listed = get_origin(kind) is tuple and not text.startswith("[")
    try:
        return yaml.safe_load(f"[{text}]" if listed else text)
    except INVALID:
        raise InputError(f"{where}: {key} must be {_spell(kind)}, got {shown(text)}") from None
