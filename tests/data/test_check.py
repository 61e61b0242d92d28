import json
import shutil
import sys
import types

import pytest

from visir.core.types import Benchmark, InputError, Modality, Record
from visir.data.check import check, missing_in_training
from visir.data.registry import DATASETS, open_benchmark


@pytest.fixture
def made(sysu):
    """The SYSU tree with the note `visir synth` leaves."""
    counts = {f"cam{cam}": len(list((sysu / f"cam{cam}").rglob("*.jpg"))) for cam in range(1, 7)}
    (sysu / "visir-synth.json").write_text(json.dumps({"layout": "sysu", "counts": counts}))
    return sysu


def test_a_whole_data_set_has_no_problems(made):
    report = check(made, progress=False)
    assert (report.layout, report.problems) == ("sysu", [])
    assert report.text.endswith("No problems found.")
    lines = report.text.splitlines()
    assert "cam1: 12 images" in lines
    assert "cam2: 15 images" in lines
    row = next(line for line in lines if line.startswith("cam3") and "infrared" in line)
    assert row.split() == ["cam3", "infrared", "9", "3", "3", "1"]
    assert next(line for line in lines if line.startswith("all ")).split()[1:] == [
        "54", "3", "30", "2",
    ]  # fmt: skip


def test_broken_copied_tiny_and_missing_files(made, make_image):
    cut = made / "cam1" / "0001" / "0001.jpg"
    cut.write_bytes(cut.read_bytes()[:700])
    (made / "cam2" / "0001" / "0002.jpg").write_bytes(b"")
    shutil.copy(made / "cam3" / "0002" / "0001.jpg", made / "cam3" / "0003" / "0003.jpg")
    make_image(made / "cam4" / "0001" / "0001.jpg", size=(8, 48))
    (made / "cam5" / "0004" / "0002.jpg").unlink()
    problems = check(made, progress=False).problems
    assert problems[0] == "cam5: 14 of 15, 1 missing"
    assert "cam1/0001/0001.jpg: the image is cut short or damaged" in problems[1]
    assert "cam2/0001/0002.jpg: the file is empty" in problems[2]
    assert problems[3:] == [
        "cam3/0002/0001.jpg and cam3/0003/0003.jpg: the same file",
        "cam4/0001/0001.jpg: only 8 x 48 pixels (width x height)",
    ]
    assert check(made, progress=False).text.splitlines()[-6] == "5 problems:"


def test_many_broken_files_are_summed_up(made):
    for path in (made / "cam1").rglob("*.jpg"):
        path.write_bytes(b"")
    for path in (made / "cam2").rglob("*.jpg"):
        path.write_bytes(b"x")
    problems = check(made, progress=False).problems
    assert len(problems) == 21
    assert problems[-1] == "7 more unreadable images"


def test_the_published_counts_are_asserted(sysu):
    """Without the note of `visir synth` it is taken for SYSU-MM01, of which much is missing."""
    problems = check(sysu, progress=False).problems
    assert any(
        text.startswith("cam1: 12 of 6,289, 6,277 missing (identities 1 (3 of 29), 2 (3 of 26), ")
        for text in problems
    )
    assert "training visible images: 36 of 22,258, 22,222 missing" in problems
    assert "training infrared images: 18 of 11,909, 11,891 missing" in problems
    assert "test infrared images: 9 of 3,803, 3,794 missing" in problems
    assert "training identities: 3 of 395, 392 missing" in problems


def test_an_identity_without_images_is_named(made):
    (made / "exp" / "train_id.txt").write_text("1,2,99,100")
    assert check(made, progress=False).problems == [
        f"{made / 'exp' / 'train_id.txt'}: no image in any camera of 99, 100"
    ]


def test_a_data_set_that_cannot_be_opened_is_still_counted(made):
    (made / "exp" / "test_id.txt").unlink()
    report = check(made, progress=False)
    assert "cam1: 12 images" in report.text
    assert len(report.problems) == 1
    assert "test_id.txt: missing" in report.problems[0]
    assert report.text.endswith(f"1 problem:\n1. {report.problems[0]}")


def test_regdb_looks_at_every_split(regdb):
    (regdb / "idx" / "train_visible_7.txt").unlink()
    problems = check(regdb, progress=False).problems
    assert (
        f"{regdb / 'idx' / 'train_visible_7.txt'}: missing; copy it from the data set" in problems
    )
    assert "Thermal: 24 of 4,120, 4,096 missing" in problems
    assert "split 10: test visible images: 12 of 2,060, 2,048 missing" in problems
    assert not any(text.startswith("split 7:") for text in problems)


def test_llcm_counts(llcm):
    problems = check(llcm, progress=False).problems
    assert "test_nir: 16 of 7,166, 7,150 missing" in problems
    assert "test identities: 2 of 351, 349 missing" in problems


def test_plain_folders_have_nothing_to_be_held_against(crops):
    report = check(crops, progress=False)
    assert (report.layout, report.problems) == ("folder", [])
    assert "protocols: none" in report.text
    (crops / "ir").rename(crops / "other")
    assert "only visible images" in check(crops, progress=False).problems[0]


def test_no_folder_no_report(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        check(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no known data set"):
        check(tmp_path)


@pytest.mark.parametrize("layout", ["crops", "folder"])
def test_a_broken_image_is_found_in_any_layout(layout, crops, make_image):
    """Layouts without published counts: every image of the folder is decoded."""
    empty, text = crops / "RGB" / "empty.jpg", crops / "RGB" / "text.jpg"
    make_image(crops / "elsewhere" / "tiny.png", size=(8, 48))
    empty.write_bytes(b"")
    text.write_text("not an image")
    report = check(crops, layout, progress=False)
    assert any(f"{empty}: the file is empty" in line for line in report.problems)
    assert any(f"{text}: not an image" in line for line in report.problems)
    assert "elsewhere/tiny.png: only 8 x 48 pixels (width x height)" in report.problems
    assert len(report.problems) == 3


def test_training_is_compared_with_what_was_opened(sysu, regdb, made):
    problems = missing_in_training(open_benchmark(regdb, split=3))
    assert "split 3: training visible images: 12 of 2,060, 2,048 missing" in problems
    assert not any("test" in text or "split 1:" in text for text in problems)
    (regdb / "idx" / "train_visible_7.txt").unlink()  # another split than the one trained on
    assert missing_in_training(open_benchmark(regdb, split=3)) == problems
    assert missing_in_training(open_benchmark(made)) == []
    (made / "visir-synth.json").unlink()
    assert "training identities: 3 of 395, 392 missing" in missing_in_training(
        open_benchmark(sysu), "sysu"
    )


@pytest.mark.parametrize("layout", sorted(DATASETS))
@pytest.mark.parametrize("filled", [False, True])
def test_a_folder_without_images_is_a_problem_in_every_layout(tmp_path, layout, filled):
    for place in ("", "visible", "infrared", "bounding_box_train", "cam1"):
        (tmp_path / place).mkdir(exist_ok=True)
        if filled:
            (tmp_path / place / "0001_c1_a.jpg").write_text("no image")
    report = check(tmp_path, layout, progress=False)
    assert report.exit_code == 1 and report.problems
    assert "No problems found" not in report.text


def load_nothing(root):
    """A data set added by a package, without counts, that finds nothing and says nothing."""
    return Benchmark("mine", root, (), (), cameras={1: "a"})


def load_lost(root):
    """The same with a record whose file is gone."""
    train = (Record(root / "gone.jpg", None, 1, Modality.VISIBLE),)
    return Benchmark("mine", root, train, (), cameras={1: "a"})


def test_a_data_set_without_counts_is_not_whole_because_nothing_is_compared(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", types.SimpleNamespace(a=load_nothing, b=load_lost))
    assert check(tmp_path, "mine:a", progress=False).problems == ["no training images"]
    (problem,) = check(tmp_path, "mine:b", progress=False).problems
    assert "gone.jpg" in problem


def test_folders_that_a_note_counts_and_that_are_gone_are_missing(made):
    shutil.rmtree(made / "cam1")
    assert "cam1: 0 of 12, 12 missing" in check(made, progress=False).problems
