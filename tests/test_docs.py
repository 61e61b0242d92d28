"""The commands and Python blocks of the README and the documentation are executed.

A block after a comment ``<!-- not run: why -->`` is left out. Blocks of a page run in order, in a
folder that holds a data set `people` and a run `runs/demo`; data sets are made smaller and
trainings shorter than the page says.
"""

import importlib
import pkgutil
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import visir
from visir import cli
from visir.commands import COMMANDS, reference
from visir.methods import METHODS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"^(?P<skip><!-- not run: \S.*? -->\n)?```(?P<kind>sh|console|python)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
SMALLER = {"--ids": "24", "--images": "2", "--size": "48x24"}


class Block(NamedTuple):
    """A fenced block: the line it starts in, its language, its text."""

    line: int
    kind: str
    code: str


def blocks(text: str) -> list[Block]:
    """The blocks of a page that are to run."""
    return [
        Block(text.count("\n", 0, match.start()) + 1, match["kind"], match["code"])
        for match in BLOCK.finditer(text)
        if not match["skip"]
    ]


def commands(code: str) -> Iterator[list[str]]:
    """The command lines of a shell block, as words."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words:
            yield words


def shortened(words: list[str]) -> list[str]:
    """The same command on fewer people and smaller images, for fewer epochs."""
    words = words.copy()
    if words[0] == "synth":
        for option, value in SMALLER.items():
            words[words.index(option) + 1] = value
    if words[0] in ("train", "pretrain") and "--resume" not in words:
        method = words[1] if words[0] == "train" else "dino"
        pairs = smoke(method)
        if "--set" not in words:
            return [*words, "--set", *pairs]
        place = words.index("--set") + 1
        said = {word.partition("=")[0] for word in words[place:]}
        kept = [pair for pair in pairs if pair.partition("=")[0] not in said]
        words[place:place] = kept
    return words


def smoke(method: str) -> list[str]:
    """What makes the preset "tiny" the preset "smoke", as words after --set."""
    tiny, small = (vars(METHODS[method].presets[name]) for name in ("tiny", "smoke"))
    return [
        f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for key, value in small.items()
        if value != tiny[key]
    ]


def run(block: Block, page: str, names: dict[str, object]) -> None:
    """Execute one block; Python names live on in `names`."""
    if block.kind == "python":
        exec(compile("\n" * block.line + block.code, page, "exec"), names)
        return
    for program, *words in commands(block.code):
        assert program == "visir", f"{page}:{block.line}: only visir is run here, not {program}"
        assert cli.main(shortened(words)) == 0, f"{page}:{block.line}: {shlex.join(words)}"


@pytest.fixture(scope="module")
def prepared(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set `people` and the run `runs/demo`."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(people, folder / "people")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["train", "simclr", "--data", "people", "--out", "runs/demo", "--device", "cpu"]
        assert cli.main(shortened(words)) == 0
    return folder


@pytest.mark.parametrize(
    "page", [p.relative_to(ROOT).as_posix() for p in PAGES if blocks(p.read_text("utf-8"))]
)
def test_the_blocks_of_a_page_run(
    page: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks((ROOT / page).read_text("utf-8")):
        run(block, page, names)


def test_a_broken_block_is_noticed() -> None:
    page = "text\n```sh\nvisir check not-there\n```\n\n```python\nraise KeyError\n```\n"
    first, second = blocks(page)
    assert (first.line, second.line) == (2, 6)
    with pytest.raises(AssertionError, match="page:2: check not-there"):
        run(first, "page", {})
    with pytest.raises(KeyError):
        run(second, "page", {})
    with pytest.raises(AssertionError, match="only visir"):
        run(Block(1, "sh", "rm -r x"), "page", {})


def test_only_blocks_with_a_reason_are_left_out() -> None:
    block = "```sh\nmake demo\n```\n"
    assert blocks("<!-- not run: takes minutes -->\n" + block) == []
    assert len(blocks("<!-- not run: -->\n" + block)) == 1
    assert len(blocks("<!-- something else -->\n" + block)) == 1
    left_out = sum(page.read_text("utf-8").count("<!-- not run:") for page in PAGES)
    assert left_out <= 8, "run the blocks instead"


def test_trainings_are_shortened_and_keep_what_the_page_sets() -> None:
    words = shlex.split("train adca --data d --set eps=0.65 k1=15")
    assert shortened(words)[-2:] == ["eps=0.65", "k1=15"]
    assert "k1=4" not in shortened(words)
    assert "stage_epochs=2,2" in shortened(words)
    assert list(commands("# why\n$ visir a \\\n  'b c'\n")) == [["visir", "a", "b c"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_in_the_text_exist(page: Path) -> None:
    for name in re.findall(r"`(visir(?:\.\w+)+)`", page.read_text("utf-8")):
        found = pkgutil.resolve_name("visir")
        for part in name.split(".")[1:]:
            if not hasattr(found, part):
                importlib.import_module(f"{found.__name__}.{part}")
            found = getattr(found, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    missing = [
        to for to in LINK.findall(page.read_text("utf-8")) if not (page.parent / to).exists()
    ]
    assert missing == []


def test_every_command_is_described() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert [name for name in cli.COMMANDS if f"| `visir {name}" not in text] == []


REFERENCE = ROOT / "docs" / "reference"
PUBLIC = [
    *(f"visir.{name}" for name in visir.__all__ if not name.startswith("__")),
    *("visir.commands." + where.replace(":", ".") for where in COMMANDS.values()),
    "visir.core.types.InputError",
    "visir.data.registry.open_benchmark",
    "visir.embedding.bulk.read_shards",
    "visir.embedding.onnx.load",
    "visir.evaluation.confidence.Calibration",
    "visir.evaluation.evaluate.evaluate",
    "visir.evaluation.evaluate.evaluate_run",
    "visir.evaluation.evaluate.score_features",
    "visir.evaluation.features.evaluate_features",
    "visir.gallery.open.open_gallery",
    "visir.gallery.store.Store",
    "visir.web.client.Client",
]


def test_the_command_reference_is_that_of_the_program() -> None:
    written = (REFERENCE / "commands.md").read_text("utf-8")
    assert written == reference.page(), "run: python -m visir.commands.reference"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    page = (REFERENCE / "api.md").read_text("utf-8")
    assert re.search(rf"^\.\. auto\w+:: {re.escape(name)}$", page, re.MULTILINE)
    module, _, last = name.rpartition(".")
    assert (getattr(importlib.import_module(module), last).__doc__ or "").strip()


def test_the_reference_names_nothing_that_is_gone() -> None:
    page = (REFERENCE / "api.md").read_text("utf-8")
    for name in re.findall(r"^\.\. auto(?:function|class|exception):: (\S+)$", page, re.MULTILINE):
        module, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(module), last), name


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text("utf-8").splitlines()
    pages = {
        page.relative_to(ROOT / "docs").with_suffix("").as_posix()
        for page in (ROOT / "docs").rglob("*.md")
    }
    assert {page for page in pages if not page.startswith(("tables/", "_build/"))} - {"index"} <= {
        *index
    }
