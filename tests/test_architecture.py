"""What keeps the house in order: sizes, documented methods, nothing that belongs to one machine."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from visir.methods import METHODS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "visir"
FILE_LINES, FUNCTION_LINES, NESTING = 400, 60, 3
# "path" or "path:function" -> why it may exceed a limit
EXCEPTIONS: dict[str, str] = {}
NESTS = (ast.If, ast.For, ast.While, ast.Try, ast.Match)


def hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.relative_to(ROOT).parts)


def tracked() -> list[Path]:
    """The project's files: those git knows, or would take."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    names = done.stdout.decode().split("\0")
    if done.returncode:  # unpacked without git: everything that is not a leftover
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if not hidden(path)]
    paths = (ROOT / name for name in sorted(names) if name)
    return [path for path in paths if path.is_file()]


PYTHON = sorted(
    path
    for room in ("visir", "tests", "benchmarks", "docs")
    for path in (ROOT / room).rglob("*.py")
)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def depth(node: ast.AST) -> int:
    """How deep control flow nests; ``elif`` and functions inside do not add to it."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            continue
        is_elif = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        deepest = max(deepest, depth(child) + (isinstance(child, NESTS) and not is_elif))
    return deepest


def too_large(name: str, source: str) -> list[str]:
    """What exceeds a limit, as keys of `EXCEPTIONS`."""
    found = [name] if len(source.splitlines()) > FILE_LINES else []
    for function in functions(ast.parse(source)):
        lines = (function.end_lineno or 0) - function.lineno + 1
        # Tests may nest: the slow twins they compare with are plain loops.
        deep = name.startswith("visir/") and depth(function) > NESTING
        if lines > FUNCTION_LINES or deep:
            found.append(f"{name}:{function.name}")
    return found


def test_files_and_functions_stay_small() -> None:
    found = set()
    for path in PYTHON:
        found |= {*too_large(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))}
    assert found == set(EXCEPTIONS)


def test_the_limits_are_seen() -> None:
    assert too_large("long.py", "x = 1\n" * 401) == ["long.py"]
    assert too_large("long.py", "def f():\n" + "    x = 1\n" * 60) == ["long.py:f"]
    nested = "def f(x):\n if x:\n  for y in x:\n   while y:\n    if y:\n     pass\n"
    assert too_large("visir/deep.py", nested) == ["visir/deep.py:f"]
    assert too_large("tests/deep.py", nested) == []
    flat = "def f(x):\n" + " if x == 0:\n  pass\n" + " elif x == 1:\n  pass\n" * 9
    assert too_large("visir/flat.py", flat) == []


# Folders of one machine; spelt so that this file does not hold them.
ELSEWHERE = re.compile(r"(?<![\w.~>}/-])/(?:work|home|root|tmp|Users|mnt|opt)/\w")


def silent(source: str) -> list[int]:
    """Lines of matches that end with a branch for every other name, and do not raise there."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Match):
            pattern, body = node.cases[-1].pattern, node.cases[-1].body
            rest = isinstance(pattern, ast.MatchAs) and pattern.pattern is None
            loud = isinstance(body[0], ast.Raise) or "assert_never" in ast.unparse(body[0])
            if not (rest and loud):
                found.append(node.lineno)
    return found


def test_a_match_over_names_ends_loudly() -> None:
    assert not [path for path in PYTHON if PACKAGE in path.parents and silent(path.read_text())]
    for end in ("case _:\n  b()", "case 'b':\n  b()", "case other:\n  b()"):
        assert silent(f"match a:\n case 'a':\n  a()\n {end}") == [1]
    assert not silent("match a:\n case 'a':\n  a()\n case _:\n  assert_never(a)")


def test_no_absolute_path_is_tracked() -> None:
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "ignore")
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".html", ".lock", ".sh", ""}:
            found += [f"{path.relative_to(ROOT)}: {hit}" for hit in ELSEWHERE.findall(text)]
    assert found == []


def test_absolute_paths_are_seen() -> None:
    assert ELSEWHERE.search('open("/' + 'home/somebody/x")')
    assert not ELSEWHERE.search("runs/home/x and https://example.org/home/x")


@pytest.mark.parametrize("key", METHODS)
def test_every_method_is_documented(key: str) -> None:
    method = METHODS[key]
    page = ROOT / "docs" / "methods" / f"{key}.md"
    assert page.is_file(), f"write {page.relative_to(ROOT)}"
    assert "tiny" in method.presets
    about = sys.modules[method.__module__].__doc__ or ""
    assert re.search(r"\((?:[^()]*, )?[^()]*\b(?:19|20)\d\d\)", about), "name the paper and year"
    assert ("visir's own method" if key == "pairs" else "Deviations") in about


def test_every_setting_of_a_method_names_its_source() -> None:
    from visir.core.config import dump_commented

    for key, method in METHODS.items():
        config = method.presets["tiny"]
        about = type(config).__doc__ or ""
        lines = dump_commented(config).splitlines()
        bare = [line for line in lines if "  # " not in line]
        assert not bare or "ours" in about, f"{key}: no comment on {bare}"


def test_the_lock_names_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text("utf-8")
    assert "://" not in text
    assert "file:" not in text
    pins = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    assert len(pins) > 50
    assert text.count("--hash=sha256:") >= len(pins)


def test_the_lock_covers_what_the_project_asks_for() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[\w-]+", entry)[0].lower() for entry in wanted}
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text("utf-8"), re.M)
    assert names <= set(pinned)


def test_the_version_stands_once() -> None:
    import tomllib

    from visir import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
