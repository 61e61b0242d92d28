"""Read a YAML file of keys and values, within bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from visir.core.names import shown
from visir.core.types import InputError

_MOST_BYTES = 1 << 20
_MOST_VALUES = 100_000  # with every alias written out
_DEEPEST = 50
# What PyYAML raises for text that is no valid YAML, or holds dates and numbers that do not exist.
INVALID = (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError, AttributeError)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds keys and values.

    Raises:
        InputError: the file cannot be read, is not YAML, names a key twice, has a key that is not
            text, or is too large, also by aliases of aliases.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if len(content) > _MOST_BYTES:
        raise InputError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB; give a settings file")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _Walk(path).size(node, 0)
        value = yaml.safe_load(text)
    except INVALID as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected keys and values, got {shown(value)}")
    for key in value:
        if not isinstance(key, str):
            raise InputError(f"{path}: key {shown(key)} is not text; write it in quotes")
    return value


class _Walk:
    """Looks at all values of a file before any of them is made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[int, int] = {}  # of nodes, which aliases share; 0: inside it now

    def size(self, node: yaml.Node, depth: int) -> int:
        """The number of values in a node, with every alias written out."""
        line = node.start_mark.line + 1
        if self.sizes.get(id(node)) == 0:
            raise InputError(f"{self.path}: line {line} holds itself by an alias; write it out")
        if depth > _DEEPEST:
            raise InputError(
                f"{self.path}: line {line} is nested more than {_DEEPEST} times; make it flatter"
            )
        if id(node) not in self.sizes:
            self.sizes[id(node)] = 0
            self.sizes[id(node)] = 1 + sum(self.size(of, depth + 1) for of in self._within(node))
        if self.sizes[id(node)] > _MOST_VALUES:
            raise InputError(
                f"{self.path}: holds more than {_MOST_VALUES} values, with aliases written out; "
                "use fewer"
            )
        return self.sizes[id(node)]

    def _within(self, node: yaml.Node) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if not isinstance(node, yaml.MappingNode):
            return []
        # PyYAML silently keeps the last of two equal keys; a settings file means something else.
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise InputError(
                    f"{self.path}: line {key.start_mark.line + 1} repeats key {shown(key.value)}; "
                    "keep one of them"
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return [part for pair in node.value for part in pair]
