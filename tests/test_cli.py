"""The command line: words reach the use-cases, and every mistake is one clear line."""

import functools
import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from visir import __version__, cli
from visir.commands import embed
from visir.commands.train import _score_every
from visir.core.types import InputError

CALLS = [
    ("demo", "visir.commands.demo.demo", (), {"out": Path("runs/demo"), "seed": 0}),
    ("demo --out x --seed 3", "visir.commands.demo.demo", (), {"out": Path("x"), "seed": 3}),
    (
        "synth out --layout sysu --ids 24 --images 4 --size 144x72 --seed 1 --train-ids 9 "
        "--unpaired 0.25 --twin regdb --workers 2 --device cuda",
        "visir.synth.write.synthesise",
        (Path("out"),),
        {
            "layout": "sysu",
            "twin": "regdb",
            "ids": 24,
            "images": 4,
            "train_ids": 9,
            "size": "144x72",
            "unpaired": 0.25,
            "physics": (),
            "seed": 1,
            "workers": 2,
            "device": "cuda",
            "progress": True,
        },
    ),
    ("prepare regdb a 'b c'", "visir.data.prepare.prepare",
     ("regdb", Path("a"), Path("b c")), {"progress": True}),
    (
        "train adca --data d --preset sysu --set eps=0.5 size=96,48 --seed 2 --split 3 --resume "
        "--device cpu --start s --layout regdb --accumulate 2 --batch-norm own --profile --compile",
        "visir.training.train.train",
        ("adca", Path("d"), Path("runs/adca-d-2")),
        {
            "preset": "sysu",
            "settings": {"eps": "0.5", "size": "96,48"},
            "seed": 2,
            "split": 3,
            "layout": "regdb",
            "start": Path("s"), "exclude": None,
            "device": "cpu",
            "resume": True,
            "save_every": 0,
            "accumulate": 2,
            "batch_norm": "own",
            "profile": True,
            "compile": True,
            "on_epoch": None,
        },
    ),
    ("report r", "visir.report.write_report", (Path("r"),), {"device": "auto"}),
    ("prepare regdb --data a b", "visir.data.prepare.prepare",
     ("regdb", Path("a"), Path("b")), {"progress": True}),
    ("check --layout llcm --data=d", "visir.data.check.check",
     (Path("d"), "llcm"), {"progress": True, "person": None}),
    (
        "pretrain --seed 1 --data d --set a=1", "visir.training.pretrain.pretrain",
        (Path("d"), Path("runs/pretrain-d-1")),
        {
            "method": "dino", "preset": "tiny", "settings": {"a": "1"}, "seed": 1, "layout": None,
            "device": "auto", "resume": False, "save_every": 0, "accumulate": None,
            "batch_norm": None, "profile": False,
        },
    ),
]  # fmt: skip


class Result(SimpleNamespace):
    """Whatever a use-case returns."""

    def __str__(self) -> str:
        return self.text

    @property
    def exit_code(self) -> int:
        return len(self.problems)


class Recorder:
    """Stands in for a use-case; the result has what any command prints."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple, dict]] = []
        self.result = Result(
            folder=Path("runs/a b"),
            config=Path("runs/a b/config.yaml"),
            text="the text",
            problems=[],
            table=lambda: "the table",
            as_json=lambda: {"queries": ["ü"]},
        )

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls.append((args, kwargs))
        return self.result


def trained_on(recorder: Recorder, data: Path, folder: Path) -> None:
    """The run that the recorder returns says it was trained on this data set."""
    recorder.result.config = folder / "config.yaml"
    recorder.result.config.write_text(
        f"method: adca\ndata: {data}\nlayout: null\nsplit: 1\nsettings: {{}}\n"
    )


def replace(monkeypatch: pytest.MonkeyPatch, where: str) -> Recorder:
    module, _, name = where.rpartition(".")
    recorder = Recorder()
    functools.update_wrapper(recorder, getattr(importlib.import_module(module), name))
    monkeypatch.setattr(importlib.import_module(module), name, recorder)
    return recorder


@pytest.mark.parametrize(("words", "where", "args", "kwargs"), CALLS)
def test_words_reach_the_use_case(
    words: str, where: str, args: tuple, kwargs: dict, monkeypatch: pytest.MonkeyPatch,
    people: Path, tmp_path: Path,
) -> None:  # fmt: skip
    recorder = replace(monkeypatch, where)
    trained_on(recorder, people, tmp_path)
    assert cli.main(shlex.split(words)) == 0
    assert recorder.calls == [(args, kwargs)]


def test_train_names_the_next_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, people: Path, tmp_path: Path
) -> None:
    trained_on(replace(monkeypatch, "visir.training.train.train"), people, tmp_path)
    cli.main(["train", "adca", "--data", "d"])
    assert "visir eval 'runs/a b'" in capsys.readouterr().out


def test_train_names_no_scores_where_nothing_can_be_scored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    crops = tmp_path / "my crops"
    for name in ("visible/a/1.png", "infrared/b/2.png"):
        (crops / name).parent.mkdir(parents=True)
        (crops / name).touch()
    recorder = replace(monkeypatch, "visir.training.train.train")
    trained_on(recorder, crops, tmp_path)
    cli.main(["train", "adca", "--data", "d"])
    said = capsys.readouterr().out
    assert "visir eval" not in said
    assert f"visir index add gallery '{crops}' --run 'runs/a b'" in said
    trained_on(recorder, tmp_path / "moved", tmp_path)
    cli.main(["train", "adca", "--data", "d"])
    assert capsys.readouterr().out.endswith("trained; next:\n\n  visir report 'runs/a b'\n")


def test_check_exits_with_1_where_there_are_problems(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    recorder = replace(monkeypatch, "visir.data.check.check")
    assert cli.main(["check", "d", "--layout", "llcm"]) == 0
    assert recorder.calls == [((Path("d"), "llcm"), {"progress": True, "person": None})]
    recorder.result.problems.append("a file is empty")
    assert cli.main(["check", "d"]) == 1
    assert capsys.readouterr().out == "the text\n" * 2


def test_eval_scores_every_run_and_merges(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    score = replace(monkeypatch, "visir.evaluation.evaluate.evaluate_run")
    merge = replace(monkeypatch, "visir.evaluation.evaluate.merge")
    assert cli.main(["eval", "r", "--device", "cpu"]) == 0
    usual = {
        "layout": None, "split": None, "protocols": None, "rerank": "none", "flip": True,
        "device": "auto", "progress": True,
    }  # fmt: skip
    assert score.calls == [((Path("r"), None), usual | {"device": "cpu"})]
    assert not merge.calls
    assert cli.main(["eval", "r", "s", "--data", "d", "--protocols", "a", "b"]) == 0
    assert score.calls[1:] == [
        ((Path(run), Path("d")), usual | {"protocols": ("a", "b")}) for run in "rs"
    ]
    assert merge.calls == [(([score.result, score.result],), {})]
    assert "all 2 runs" in capsys.readouterr().out
    assert cli.main(["eval", "r", "s", "--layout", "regdb", "--split", "3", "4"]) == 0
    assert [(call[1]["layout"], call[1]["split"]) for call in score.calls[3:]] == [
        ("regdb", 3),
        ("regdb", 4),
    ]
    assert cli.main(["eval", "r", "s", "t", "--split", "2"]) == 0
    assert [call[1]["split"] for call in score.calls[5:]] == [2, 2, 2]
    assert cli.main(["eval", "r", "--rerank", "random-walk", "--no-flip"]) == 0
    assert score.calls[-1][1] == usual | {"rerank": "random-walk", "flip": False}
    assert cli.main(["eval", "r", "--split", "3", "4"]) == 2
    assert "2 splits for 1 runs" in capsys.readouterr().err


def test_search_prints_what_it_returns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from visir.gallery.results import SearchResult

    embedder = SimpleNamespace(fingerprint="f")
    monkeypatch.setattr("visir.embedding.pytorch.load", lambda run, device: embedder)
    opened = replace(monkeypatch, "visir.gallery.open.open_searchable")
    opened.result = SimpleNamespace(close=lambda: None, permanent=True)
    found = replace(monkeypatch, "visir.gallery.searching.search_files")
    found.result = []
    monkeypatch.setattr("visir.evaluation.confidence.Calibration.of", lambda run, print: None)
    words = "search r a.png ü.png --gallery g -k 3 --modality infrared --same-modality --json"
    assert cli.main([*words.split(), "--device", "cpu", "--min-score", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out) == SearchResult(()).as_json()
    (args, options) = found.calls[0]
    assert args[2] == [Path("a.png"), Path("ü.png")]
    assert (args[3].k, args[3].same_modality, args[3].min_score) == (3, True, 0.5)
    assert (options["modality"].value, options["together"]) == ("infrared", False)
    assert opened.calls[0][0][0] == "g"


def test_eval_every_scores_after_the_epochs_it_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    benchmark = SimpleNamespace(protocols={"first": 1, "second": 2})
    monkeypatch.setattr("visir.data.registry.open_benchmark", lambda *args: benchmark)
    mean = SimpleNamespace(mAP=0.5, _asdict=lambda: {"mAP": 0.5})
    result = SimpleNamespace(protocol="the first", mean=mean)
    seen = []

    def score(embedder: str, data: object, protocols: list[str]) -> object:
        seen.append((embedder, data, protocols))
        return SimpleNamespace(results={"first": result})

    monkeypatch.setattr("visir.evaluation.evaluate.evaluate", score)
    on_epoch = _score_every(2, tmp_path, Path("d"), None, 1)
    assert on_epoch(-1, None, "network") == 0.5
    plan = SimpleNamespace(stage="stage 1")
    assert [on_epoch(epoch, plan, "network") for epoch in range(4)] == [None, 0.5, None, 0.5]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["label"]) for line in lines] == [
        (-1, "start"),
        (1, "stage 1"),
        (3, "stage 1"),
    ]
    assert lines[0].items() >= {"kind": "scores", "protocol": "the first", "mAP": 0.5}.items()
    assert seen == [("network", benchmark, ["first"])] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian adca", "unknown command 'trian'; did you mean 'train'?"),
        ("synth out --idz 3", "synth: unknown option '--idz'; did you mean '--ids'?"),
        ("synth --idz=3 out", "synth: unknown option '--idz'; did you mean '--ids'?"),
        ("train adca --data d --resumee", "did you mean '--resume'?"),
        ("train adca --data d --set eps", "--set: expected key=value, got 'eps'"),
        ("train adca --data d --set a=1 --set b=2", "'--set' is given twice"),
        ("train adcaa --data d", "method 'adcaa' is unknown; did you mean 'adca'?"),
        ("train adca --data d --preset tny", "did you mean 'tiny'?"),
        ("train adca --data d --set epz=3", "unknown key 'epz'; did you mean 'eps'?"),
        ("config adca --preset tny", "did you mean 'tiny'?"),
        ("check not-there", "not-there"),
        ("eval not-there", "not-there"),
        ("eval", "eval: no run was given"),
    ],
)
def test_a_mistake_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("visir: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("synth out --ids three", "--ids"),
        ("synth out --layout sysuu", "sysuu"),
        ("synth", "folder to write"),
        ("train adca", "--data"),
        ("check a b", "b"),
    ],
)
def test_a_wrong_value_names_its_option(
    words: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_input_errors_have_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise InputError("a.jpg: is empty; copy it again")

    monkeypatch.setattr("visir.report.write_report", fail)
    assert cli.main(["report", "r"]) == 2
    assert capsys.readouterr().err == "visir: error: a.jpg: is empty; copy it again\n"


@pytest.mark.parametrize(
    ("argv", "where", "message"),
    [
        (
            ["train", "adca", "--data", "a b"],
            "visir.training.train.train",
            "visir: stopped; to continue: visir train adca --data 'a b' --resume",
        ),
        (
            ["train", "adca", "--data", "d", "--resume"],
            "visir.training.train.train",
            "visir: stopped; to continue: visir train adca --data d --resume",
        ),
        (
            ["prepare", "sysu", "a", "b"],
            "visir.data.prepare.prepare",
            "visir: stopped; run the same command again to continue",
        ),
        (["report", "r"], "visir.report.write_report", "visir: stopped"),
    ],
)
def test_ctrl_c_says_how_to_go_on(
    argv: list[str],
    where: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, stop)
    assert cli.main(argv) == 130
    assert capsys.readouterr().err == f"\n{message}\n"


def test_version(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"visir {__version__}\n"


def test_old_options_and_values_are_renamed_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    recorder = replace(monkeypatch, "visir.embedding.bulk.embed_run")
    monkeypatch.setattr(embed, "OLD_VALUES", {"--modality": {"rgb": "visible"}}, raising=False)
    monkeypatch.setattr(embed, "OLD_NOTES", {"--tags": "words are joined"}, raising=False)
    words = "embed r rgb --out o --tags a rgb --modality rgb"
    assert cli.main(words.split()) == 0
    (args, _) = recorder.calls[0]
    assert args[:3] == (Path("r"), (Path("rgb"),), Path("o"))
    assert args[3].tags == ("a", "rgb")
    assert args[3].modality.value == "visible"
    assert capsys.readouterr().err.splitlines() == [
        "visir: warning: --tags is now called --tag; the old name works until version 1.0; "
        "words are joined",
        "visir: warning: --modality rgb is now called --modality visible; the old name works "
        "until version 1.0",
        "next: visir index add gallery o --run r",
    ]
    assert cli.main(["embed", "r", "i", "--out=o", "--tags=a", "--modality=rgb"]) == 0
    assert recorder.calls[1][0][3] == args[3].__class__(args[3].modality, None, ("a",))
    with pytest.raises(SystemExit):
        cli.main(["embed", "--help"])
    assert "--tags" not in capsys.readouterr().out


def test_one_process_of_several_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    replace(monkeypatch, "visir.report.write_report")
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["report", "r"]) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    assert cli.main(["report", "r"]) == 0
    assert capsys.readouterr().out == "the text\n"


def test_an_unknown_key_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "visir.cli", "synth", "out", "--idz", "3"]
    env = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "visir: error: synth: unknown option '--idz'; did you mean '--ids'?\n"
