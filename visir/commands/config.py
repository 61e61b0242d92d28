"""`visir config`: the settings of a method."""

from __future__ import annotations


def config(method: str, /, *, preset: str = "tiny") -> str:
    """Print a method's settings as YAML, each with its unit or source.

    Args:
        method: training method.
        preset: named settings of the method: tiny, sysu, regdb; some methods have more.

    Returns:
        The YAML text.

    Raises:
        InputError: no such method or preset.
    """
    from visir.core.config import dump_commented
    from visir.training.train import find_preset

    text = dump_commented(find_preset(method, preset))
    return f"# A source in brackets is that of the default value.\n{text}".rstrip("\n")
