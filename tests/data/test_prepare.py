import errno
import resource
import shutil
import signal

import pytest

from visir.core.types import InputError
from visir.data import prepare as module
from visir.data.prepare import prepare


def tree(root):
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def names(root, folder):
    return sorted(path.name for path in (root / folder).iterdir())


def test_sysu(sysu, tmp_path):
    out = tmp_path / "out"
    prepare("sysu", sysu, out, progress=False)
    found = tree(out)
    assert {name.rsplit("/", 1)[0] for name in found} == {
        f"{top}/{part}"
        for top in ("ir_modify", "rgb_modify")
        for part in ("bounding_box_train", "query", "bounding_box_test")
    }
    assert names(out, "ir_modify/bounding_box_train") == [
        f"{pid:04d}_c{cam}_{n:04d}.jpg" for pid in (1, 2, 3) for cam in (3, 6) for n in (1, 2, 3)
    ]
    assert names(out, "ir_modify/query") == [
        "0004_c3_0001.jpg", "0004_c3_0002.jpg", "0004_c3_0003.jpg", "0004_c6_0001.jpg",
        "0012_c6_0001.jpg", "0012_c6_0002.jpg", "0012_c6_0003.jpg",
    ]  # fmt: skip
    assert names(out, "ir_modify/bounding_box_test") == ["0004_c6_0002.jpg", "0004_c6_0003.jpg"]
    assert len(names(out, "rgb_modify/bounding_box_train")) == 36
    assert len(names(out, "rgb_modify/query")) == 8
    assert len(names(out, "rgb_modify/bounding_box_test")) == 21 - 8
    original = (sysu / "cam6" / "0004" / "0001.jpg").read_bytes()
    assert found["ir_modify/query/0004_c6_0001.jpg"] == original
    assert len(found) == 84


def test_regdb(regdb, tmp_path):
    out = tmp_path / "out"
    prepare("regdb", regdb, out, progress=False)
    found = tree(out)
    assert {name.split("/")[1] for name in found} == {str(n) for n in range(1, 11)}
    assert len(found) == 2 * 10 * (12 + 8 + 12)
    assert names(out, "ir_modify/1/bounding_box_train")[0] == "0_c1_man_t_00000_1.bmp"
    assert names(out, "ir_modify/2/bounding_box_train")[0] == "0_c1_man_t_00000_3.bmp"
    assert names(out, "rgb_modify/1/query") == [
        f"{label}_c1_man_v_{n:05d}_{label + 3}.bmp" for label in (0, 1) for n in range(4)
    ]
    assert len(names(out, "rgb_modify/1/bounding_box_test")) == 12
    original = (regdb / "Visible" / "3" / "man_v_00000_3.bmp").read_bytes()
    assert found["rgb_modify/1/query/0_c1_man_v_00000_3.bmp"] == original


def test_full_disk_leaves_whole_files_and_the_next_run_ends_it(sysu, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "out"
    prepare("sysu", sysu, whole, progress=False)
    copied = []

    def disk_with_room_for_ten(source, target):
        if len(copied) == 10:
            target.write_bytes(source.read_bytes()[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        copied.append(target)
        return shutil_copyfile(source, target)

    shutil_copyfile = shutil.copyfile
    monkeypatch.setattr(module.shutil, "copyfile", disk_with_room_for_ten)
    with pytest.raises(InputError, match=r"No space left on device.*run the same command again"):
        prepare("sysu", sysu, out, progress=False)
    partial, complete = tree(out), tree(whole)
    assert len(partial) == 10
    assert partial.items() <= complete.items()
    copied.clear()
    monkeypatch.setattr(
        module.shutil, "copyfile", lambda *a: (copied.append(a), shutil_copyfile(*a))
    )
    prepare("sysu", sysu, out, progress=False)
    assert tree(out) == complete
    assert len(copied) == len(complete) - 10


def test_the_system_refusing_to_write_on(sysu, tmp_path):
    """A real failing write: the kernel stops every file at 500 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(InputError, match=r"copying .* failed"):
            prepare("sysu", sysu, tmp_path / "out", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert tree(tmp_path / "out") == {}


def test_short_copies_are_made_again(sysu, tmp_path):
    out = tmp_path / "out"
    prepare("sysu", sysu, out, progress=False)
    complete = tree(out)
    cut = out / "rgb_modify" / "query" / "0004_c1_0001.jpg"
    cut.write_bytes(cut.read_bytes()[:-5])
    (out / "ir_modify" / "query" / ".0004_c3_0001.jpg.part").write_bytes(b"left by a kill")
    prepare("sysu", sysu, out, progress=False)
    assert tree(out) == complete


def test_names_that_would_collide(regdb, tmp_path):
    (regdb / "Visible" / "5").mkdir()
    shutil.copy(regdb / "Visible" / "1" / "man_v_00000_1.bmp", regdb / "Visible" / "5")
    path = regdb / "idx" / "train_visible_3.txt"
    path.write_text(path.read_text() + "Visible/5/man_v_00000_1.bmp 0\n")
    with pytest.raises(InputError, match="would take the same name"):
        prepare("regdb", regdb, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_prepared(sysu, llcm, tmp_path):
    with pytest.raises(InputError, match="only sysu and regdb can be prepared"):
        prepare("llcm", llcm, tmp_path / "out", progress=False)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"copying .* failed"):
        prepare("sysu", sysu, tmp_path / "file", progress=False)
    (sysu / "exp" / "test_id.txt").unlink()
    with pytest.raises(InputError, match="test_id"):
        prepare("sysu", sysu, tmp_path / "out", progress=False)
