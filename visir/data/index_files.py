"""Index files and numbered folders, as several public data sets have them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from visir.core.types import InputError
from visir.data.table import same_name


def read_ids(path: Path) -> set[int]:
    """Read comma-separated identity numbers (`1,2,3`).

    Raises:
        InputError: the file is missing, or a word in it is not a number.
    """
    fix = "it holds one line of comma-separated identity numbers, such as 1,2,3"
    try:
        words = path.read_text(encoding="utf-8-sig").replace(",", " ").split()
    except FileNotFoundError:
        raise InputError(f"{path}: missing; copy it from the data set, {fix}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {fix}") from error
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise InputError(f"{path}: {word!r} is not an identity number; {fix}")
    return {int(word) for word in words}


def identity_folders(camera: Path) -> list[tuple[int, Path]]:
    """The numbered folders of one camera, as (identity, folder), sorted; empty if none exists."""
    if not camera.is_dir():
        return []
    folders = [f for f in camera.iterdir() if f.name.isascii() and f.name.isdigit() and f.is_dir()]
    return sorted((int(folder.name), folder) for folder in folders)


def read_list(root: Path, path: Path) -> list[tuple[Path, int]]:
    r"""Read a list of `relative/path label` lines as (existing path, label), in its own order.

    A path may have `\` for `/`, and its accented letters either Unicode form.

    Raises:
        InputError: the list is missing, a line has another form, or a listed image is missing.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: missing; copy it from the data set") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); copy it again") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not (label.isascii() and label.isdigit()):
            raise InputError(
                f"{path}: line {number} is {line!r}; write an image's path, a space and its "
                "identity number"
            )
        image = _named(root, name.strip())
        if image is None:
            raise InputError(
                f"{path}: line {number} lists {name.strip()}, which is not in {root}; "
                "copy the image there or remove the line"
            )
        found.append((image, int(label)))
    return found


def _named(root: Path, name: str) -> Path | None:
    """The image of a name in a list, None if there is none."""
    one = same_name(name)
    names = (name, one, unicodedata.normalize("NFD", one))
    return next((root / each for each in names if (root / each).is_file()), None)
