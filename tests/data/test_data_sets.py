"""SYSU-MM01, RegDB and LLCM trees become benchmarks; broken ones a sentence."""

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from visir.core.types import Exclusion, InputError, Modality
from visir.data.protocols import official_counts
from visir.data.registry import DATASETS, detect, open_benchmark
from visir.data.sysu import SAME_ROOM
from visir.evaluation.evaluate import merge, score_features

SYSU_SEEDED = {f"{m}-{s}-seeded" for m in ("all", "indoor") for s in ("single", "multi")}
DIRECTIONS = {"visible-to-infrared", "infrared-to-visible"}


def keys(records):
    return [(r.pid, r.cam, r.modality, r.path.name) for r in records]


def test_sysu(sysu):
    bench = open_benchmark(sysu)
    assert (bench.name, bench.split, set(bench.protocols)) == ("SYSU-MM01", None, SYSU_SEEDED)
    assert Counter(r.pid for r in bench.train) == {1: 18, 2: 18, 3: 18}
    assert {r.pid for r in bench.validation} == {3}
    assert Counter(r.pid for r in bench.test) == {4: 18, 12: 12}
    for records in (bench.train, bench.test, bench.validation):
        assert [r.path for r in records] == sorted(r.path for r in records)
    for r in (*bench.train, *bench.test):
        assert r.path.parts[-3:-1] == (f"cam{r.cam}", f"{r.pid:04d}")
        assert (r.modality is Modality.INFRARED) == (r.cam in (3, 6))


def test_sysu_protocols(sysu):
    bench = open_benchmark(sysu)
    sizes = {"all-single": 7, "all-multi": 21, "indoor-single": 3, "indoor-multi": 9}
    for key, size in sizes.items():
        protocol = bench.protocols[f"{key}-seeded"]
        mode, shot = key.split("-")
        assert protocol.name == f"SYSU-MM01 {mode}-search {shot}-shot, seeded gallery"
        assert protocol.exclusion == SAME_ROOM == Exclusion(frozenset({(3, 2)}))
        assert protocol.unique_identities
        assert len(protocol.trials) == 10
        for trial in protocol.trials:
            assert Counter(bench.test[i].cam for i in trial.query) == {3: 3, 6: 6}
            gallery = [bench.test[i] for i in trial.gallery]
            assert len(gallery) == len(set(gallery)) == size
            assert {r.cam for r in gallery} <= ({1, 2} if mode == "indoor" else {1, 2, 4, 5})
    draws = {tuple(t.gallery) for t in bench.protocols["all-single-seeded"].trials}
    assert len(draws) > 5


@pytest.mark.slow
def test_sysu_official_only_where_the_counts_are_the_real_ones(tmp_path):
    for (pid, cam), n in [*official_counts().items(), ((6, 3), 20), ((6, 6), 20)]:
        folder = tmp_path / f"cam{cam}" / f"{pid:04d}"
        folder.mkdir(parents=True)
        for number in range(n):
            (folder / f"{number + 1:04d}.jpg").touch()
    (tmp_path / "exp").mkdir()
    ids = sorted({pid for pid, _ in official_counts()})
    (tmp_path / "exp" / "test_id.txt").write_text(",".join(map(str, ids)))
    (tmp_path / "exp" / "train_id.txt").write_text("1")
    (tmp_path / "exp" / "val_id.txt").write_text("2")
    bench = open_benchmark(tmp_path)
    assert len(bench.protocols) == 8
    for sampling in ("seeded", "official"):
        assert {len(t.gallery) for t in bench.protocols[f"all-single-{sampling}"].trials} == {301}
        assert {len(t.gallery) for t in bench.protocols[f"indoor-single-{sampling}"].trials} == {
            112
        }
    official = bench.protocols["all-single-official"]
    assert official.name == "SYSU-MM01 all-search single-shot, official gallery"
    first = bench.test[official.trials[0].gallery[0]].path
    assert first.parts[-3:] == ("cam1", "0006", "0005.jpg")
    first.unlink()
    assert set(open_benchmark(tmp_path).protocols) == SYSU_SEEDED


def test_sysu_id_lists(sysu):
    ids = sysu / "exp" / "test_id.txt"
    ids.write_text("4,12,unknown")
    with pytest.raises(InputError, match=r"test_id\.txt: 'unknown' is not an identity number; it"):
        open_benchmark(sysu)
    ids.write_text("4,1")
    with pytest.raises(InputError, match=r"test_id\.txt: identity 1 is also listed for training"):
        open_benchmark(sysu)
    ids.write_text("\ufeff12, 4,\n")
    assert {r.pid for r in open_benchmark(sysu).test} == {4, 12}
    ids.unlink()
    with pytest.raises(InputError, match=r"exp/test_id\.txt: missing; copy it from the data set"):
        open_benchmark(sysu)


def test_sysu_without_shared_identity(sysu):
    for cam in (3, 6):
        for pid in ("0004", "0012"):
            for path in (sysu / f"cam{cam}" / pid).glob("*.jpg"):
                path.unlink()
    with pytest.raises(InputError, match="no test identity has both a visible and an infrared"):
        open_benchmark(sysu)


@pytest.mark.parametrize("split", [1, 2])
def test_regdb(regdb, split):
    bench = open_benchmark(regdb, split=split)
    assert (bench.name, bench.split, set(bench.protocols)) == ("RegDB", str(split), DIRECTIONS)
    people = {"1", "2"} if split == 1 else {"3", "4"}
    assert {r.path.parts[-2] for r in bench.train} == people
    assert {r.path.parts[-2] for r in bench.test} == {"1", "2", "3", "4"} - people
    for records in (bench.train, bench.test):
        assert Counter((r.pid, r.cam, r.modality) for r in records) == {
            (label, cam, modality): 6
            for label in (0, 1)
            for cam, modality in ((1, Modality.VISIBLE), (2, Modality.INFRARED))
        }
    for key, protocol in bench.protocols.items():
        assert protocol.name == f"RegDB {key}, full gallery"
        assert protocol.exclusion == Exclusion()
        assert not protocol.unique_identities
        ((query, gallery),) = protocol.trials
        source, _, target = key.split("-")
        assert {bench.test[i].modality.value for i in query} == {source}
        assert {bench.test[i].modality.value for i in gallery} == {target}
        assert len(query) == len(gallery) == 12


def test_runs_on_regdbs_splits_are_averaged(regdb):
    """Each split has a benchmark of its own, but one protocol: the ten results merge."""
    evaluations = []
    for split in (1, 2):
        bench = open_benchmark(regdb, split=split)
        features = np.eye(8, dtype=np.float32)[[r.pid for r in bench.test]]
        evaluations.append(score_features(features, bench))
    merged = merge(evaluations)
    assert (merged.split, set(merged.results)) == ("1, 2", DIRECTIONS)
    assert all(len(result.trials) == 2 for result in merged.results.values())
    assert "RegDB, split 1, 2, in percent" in merged.table()


def test_regdb_bad_lists(regdb):
    with pytest.raises(InputError, match="RegDB has splits 1 to 10"):
        open_benchmark(regdb, split=11)
    path = regdb / "idx" / "test_thermal_1.txt"
    text = path.read_text()
    path.write_text(text.replace("00001_3.bmp 0", "00001_3.bmp zero"))
    with pytest.raises(InputError, match=r"test_thermal_1\.txt: line 2 is 'Thermal/3/man_t"):
        open_benchmark(regdb)
    path.write_text(text + "Thermal/3/nobody.bmp 0\n")
    with pytest.raises(InputError, match=r"test_thermal_1\.txt: line 13 lists Thermal/3/nobody"):
        open_benchmark(regdb)
    path.unlink()
    with pytest.raises(InputError, match=r"test_thermal_1\.txt: missing"):
        open_benchmark(regdb)
    assert open_benchmark(regdb, split=2).split == "2"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_lists_from_other_systems_are_read(regdb, form):
    r"""Paths with `\\`, and accented letters in the other Unicode form than those on the disk."""
    path = regdb / "idx" / "train_visible_1.txt"
    lines = path.read_text().splitlines()
    name = lines[0].rpartition(" ")[0]
    image = regdb / name
    image.rename(image.with_name(unicodedata.normalize(form, "zoë 1.bmp")))
    other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "zoë 1.bmp")
    lines[0] = f"{Path(name).parent.as_posix()}/{other} 0"
    path.write_text("\n".join(lines).replace("/", "\\"), encoding="utf-8")
    assert Counter(r.modality for r in open_benchmark(regdb).train) == {
        Modality.VISIBLE: 12, Modality.INFRARED: 12,
    }  # fmt: skip
    path.write_text("\n".join(lines).replace("zo", "xo"), encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1 lists .*which is not in"):
        open_benchmark(regdb)


def test_llcm(llcm):
    bench = open_benchmark(llcm)
    assert (bench.name, set(bench.protocols)) == ("LLCM", DIRECTIONS)
    assert Counter((r.pid, r.cam) for r in bench.train) == {(0, 1): 2, (0, 2): 2, (0, 3): 1}
    assert Counter(r.pid for r in bench.test) == {3: 20, 4: 20}
    for key, cams in (("visible-to-infrared", (1, 2)), ("infrared-to-visible", (1, 2, 3))):
        protocol = bench.protocols[key]
        assert protocol.name == f"LLCM {key}, single-shot, seeded gallery"
        assert protocol.exclusion.same_identity_only
        assert protocol.exclusion.cam_pairs == {(cam, cam) for cam in range(1, 10)}
        assert protocol.unique_identities
        assert len(protocol.trials) == 10
        for trial in protocol.trials:
            gallery = [bench.test[i] for i in trial.gallery]
            assert [(r.pid, r.cam) for r in gallery] == [(p, c) for p in (3, 4) for c in cams]
            assert len(trial.query) == 40 - 8 * len(cams)


@pytest.mark.parametrize("name", ["odd.jpg", "0001_c10_s1.jpg"])
def test_llcm_name_without_camera(llcm, name):
    path = llcm / "idx" / "train_nir.txt"
    (llcm / "nir" / "0001" / name).touch()
    path.write_text(path.read_text() + f"\nnir/0001/{name} 0")
    with pytest.raises(InputError, match=rf"{name}: no camera from 1 to 9 in the file name"):
        open_benchmark(llcm)


def test_detect(sysu, regdb, llcm, crops, tmp_path):
    found = {detect(root) for root in (sysu, regdb, llcm, crops)}
    assert found == set(DATASETS) - {"crops", "market", "rgbnt"}  # no mark; own tests
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"no known data set.*cam1.*idx/train_vis.txt.*visible"):
        detect(empty)
    with pytest.raises(InputError, match=r"one folder deeper; name .*deep"):
        (empty / "deep").mkdir()
        sysu.rename(empty / "deep" / "sysu")
        detect(empty / "deep")


def test_open_refuses_what_is_no_folder(sysu, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_benchmark(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a file; unpack it"):
        open_benchmark(sysu / "exp" / "test_id.txt")
    with pytest.raises(
        InputError, match=r"layout 'sisu'.*sysu, regdb, llcm, rgbnt, market, folder"
    ):
        open_benchmark(sysu, layout="sisu")
    with pytest.raises(InputError, match=r"split 2: .* has one split only"):
        open_benchmark(sysu, split=2)


def test_spaces_letters_and_numbers_in_the_path(sysu, regdb, crops, tmp_path):
    """Paths are read part by part: neither 'cam9' above nor odd letters mislead."""
    above = tmp_path / "cam9 Größe 人 {x}" / "0007"
    above.mkdir(parents=True)
    for root in (sysu, regdb, crops):
        before = open_benchmark(root)
        moved = open_benchmark(root.rename(above / root.name))
        assert keys(moved.train) == keys(before.train)
        assert keys(moved.test) == keys(before.test)
        assert moved.protocols.keys() == before.protocols.keys()


def test_relative_paths_are_resolved(sysu, monkeypatch):
    monkeypatch.chdir(sysu.parent)
    bench = open_benchmark(Path("sysu"))
    assert bench.root == sysu
    assert all(r.path.is_absolute() for r in bench.train)


def test_synthetic_people_are_named_so(sysu):
    (sysu / "visir-synth.json").write_text("{}")
    assert open_benchmark(sysu).name == "synthetic SYSU-MM01"
