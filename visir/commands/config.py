"""`visir config`: the settings of a method."""

from __future__ import annotations

from pathlib import Path


def config(
    method: str,
    /,
    *,
    preset: str = "tiny",
    data: Path | None = None,
    layout: str | None = None,
    split: int = 1,
    set: tuple[str, ...] = (),
    device: str = "auto",
) -> str:
    """Print a method's settings as YAML, each with its unit or source.

    Args:
        method: training method.
        preset: named settings of the method: tiny, sysu, regdb; some methods have more; own is
            sized by the images of --data.
        data: folder of the data set, for the preset own.
        layout: folder structure; detected if omitted.
        split: of the data set.
        set: settings to replace, as key=value.
        device: where the network will train, for the preset own: cpu, cuda, cuda:1; auto uses a GPU
            if there is one.

    Returns:
        The YAML text.

    Raises:
        InputError: no such method, preset or setting, or no data for the preset own.
    """
    from visir.core.config import dump_commented, parse_pairs
    from visir.training.settings import DataPlace, settings_of

    place = None if data is None else DataPlace(data, layout, split)
    text = dump_commented(settings_of(method, preset, parse_pairs(set), place, device))
    return f"# A source in brackets is that of the default value.\n{text}".rstrip("\n")
