"""Raw heads into a store: failures are told and pictured, processes share the work."""

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from braintune.cohort.read import read_cohort
from braintune.commands import bids_app
from braintune.errors import InputError
from braintune.imaging.claims import STALE_S, Claims
from braintune.imaging.exclusions import LEDGER
from braintune.imaging.nifti import read_volume, write_volume
from braintune.imaging.prepare import prepare
from braintune.imaging.prepare_heads import fill_with_heads
from braintune.imaging.quality.records import FIGURES, file_name, read_record, write_record
from braintune.imaging.quality.template import quality_template
from braintune.imaging.store import PreparedStore
from braintune.recipe import PrepareRecipe
from braintune.reporting.preparation_report import prepare_and_look

# Heads that are in the template's space without skull, so that a scan takes a second.
HEADS = {"bias": "none", "brain": "none", "registration": "none"}
RECIPE = PrepareRecipe.model_validate({"spacing": 4.0, "shape": (46, 55, 46), "heads": HEADS})


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good scans at 4 mm, one that lies beside its affine, and one empty file."""
    folder = tmp_path_factory.mktemp("heads") / "<bids>"
    template, rng = quality_template(), np.random.default_rng(0)
    # A little smaller than the template, whose volume is that of a large head.
    brain = ndimage.binary_erosion(template.brain)
    for number in range(4):
        noise = rng.normal(0, 3, template.t1.shape)
        data = np.where(brain, 100 * template.t1 / template.t1.max() + noise, 0)
        if number == 2:
            data = np.roll(data, 30, axis=1)
        path = folder / f"sub-{number}" / "anat" / f"sub-{number}_T1w.nii.gz"
        small = data.clip(0).astype(np.int16)[::2, ::2, ::2]
        write_volume(path, small, template.grid.affine @ np.diag([2, 2, 2, 1]))
    empty = folder / "sub-4" / "anat" / "sub-4_T1w.nii.gz"
    empty.parent.mkdir(parents=True)
    empty.touch()
    return folder


@pytest.fixture(scope="module")
def store(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("store") / "out"
    with pytest.raises(InputError, match=r"2 scans could not be prepared(.|\n)*quality\.html"):
        prepare_and_look(read_cohort(heads), out, RECIPE, workers=1)
    return out


def test_failures_are_told_with_pictures_and_the_rest_goes_on(store: Path) -> None:
    page = (store / "quality.html").read_text(encoding="utf-8")
    assert "2 could not be prepared" in page
    assert "sub-4_T1w.nii.gz is empty" in page
    assert "&lt;bids&gt;" in page
    assert "<bids>" not in page
    failed = read_record(store, "sub-2_T1w")
    assert failed is not None
    assert "similarity" in str(failed.problem)
    with Image.open(store / FIGURES / str(failed.picture)) as picture:
        assert picture.size == (480, 160)
    assert [f"sub-{n}_T1w" in PreparedStore.open(store) for n in range(5)] == [1, 1, 0, 1, 0]


def test_the_way_back_is_kept(heads: Path, store: Path) -> None:
    name = file_name("sub-0_T1w")
    mask = read_volume(store / "native" / f"{name}_mask.nii.gz")
    scan = read_volume(heads / "sub-0" / "anat" / "sub-0_T1w.nii.gz")
    assert np.allclose(mask.affine, scan.affine)
    assert ((mask.data > 0) == (scan.data > 0)).mean() > 0.97
    moved = json.loads((store / "native" / f"{name}_to-template.json").read_text())
    assert np.allclose(moved["matrix"], np.eye(4))


def test_the_next_command_does_nothing_again_and_names_who_is_left_out(
    heads: Path, store: Path
) -> None:
    cohort = read_cohort(heads)
    again = prepare(cohort, store, RECIPE, workers=1, exclude_broken=True)
    assert again.made == 0
    assert len(again.cohort) == 3
    lines = [json.loads(line) for line in (store / LEDGER).read_text().splitlines()]
    assert {line["id"] for line in lines} == {"sub-2_T1w", "sub-4_T1w"}
    prepare(cohort, store, RECIPE, workers=1, exclude_broken=True)
    assert len((store / LEDGER).read_text().splitlines()) == 2


def test_flagged_scans_leave_on_request_alone(heads: Path, store: Path) -> None:
    cohort = read_cohort(heads)
    record = read_record(store, "sub-1_T1w")
    assert record is not None
    changed = {**record.measures, "border_cm2": 30.0}
    write_record(store, type(record)(**{**record.__dict__, "measures": changed}))
    kept = prepare_and_look(cohort, store, RECIPE, workers=1, exclude_broken=True)
    assert "sub-1_T1w" in kept.prepared.cohort.scan_ids
    assert "sub-1_T1w" in [scan.record.scan_id for scan in kept.flagged]
    without = prepare_and_look(
        cohort, store, RECIPE, workers=1, exclude_broken=True, exclude_flagged=True
    )
    assert "sub-1_T1w" not in without.prepared.cohort.scan_ids
    last = json.loads((store / LEDGER).read_text().splitlines()[-1])
    assert last["reason"].startswith("flagged: ")
    assert "field of view" in " ".join(item.reason for item in without.prepared.cohort.exclusions)


def test_only_raw_heads_are_flagged(heads: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Only raw heads are flagged"):
        prepare(read_cohort(heads), tmp_path / "s", PrepareRecipe(), exclude_flagged=True)


def test_masks_must_be_somewhere(heads: Path, tmp_path: Path) -> None:
    recipe = PrepareRecipe.model_validate({"heads": {**HEADS, "brain": "masks"}})
    with pytest.raises(InputError, match="--masks FOLDER"):
        prepare(read_cohort(heads), tmp_path / "s", recipe)
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_two_processes_on_one_folder_leave_the_store_of_one(
    heads: Path, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shared"
    both = [
        subprocess.Popen(_filling(heads, out), stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=200)[0].split(" ", 1) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(int(made) for made, _ in said) == 3
    assert said[0][1] == said[1][1]
    _are_alike(store, out)
    assert not list((out / "claims").iterdir())


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_store(
    heads: Path, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    process = subprocess.Popen(_filling(heads, out), stdout=subprocess.DEVNULL)
    began = time.monotonic()
    while not list(out.glob("scans/**/*.safetensors")) and time.monotonic() - began < 120:
        time.sleep(0.02)
    process.kill()
    process.wait()
    _, failed, made = fill_with_heads(read_cohort(heads), out, RECIPE, 1)
    assert 0 < made < 3
    assert set(failed) == {"sub-2_T1w", "sub-4_T1w"}
    _are_alike(store, out)


def test_a_full_disk_is_said_and_leaves_nothing_half_written(
    heads: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cohort = tmp_path / "full", read_cohort(heads)
    with monkeypatch.context() as patched:
        patched.setattr(PreparedStore, "write", _no_space)
        with pytest.raises(InputError, match=r"full.*No space left on device"):
            fill_with_heads(cohort, out, RECIPE, 1)
    assert not list(out.glob("scans/**/*.safetensors"))
    _, failed, made = fill_with_heads(cohort, out, RECIPE, 1)
    assert (made, set(failed)) == (3, {"sub-2_T1w", "sub-4_T1w"})
    _are_alike(store, out)


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _filling(heads: Path, out: Path) -> list[str]:
    """The command line of a process that fills a store and says how many scans it made."""
    code = (
        "import sys; from pathlib import Path; from braintune.cohort.read import read_cohort;"
        "from braintune.imaging.prepare_heads import fill_with_heads;"
        "from braintune.recipe import PrepareRecipe;"
        f"recipe = PrepareRecipe.model_validate({RECIPE.model_dump()!r});"
        f"found = fill_with_heads(read_cohort({str(heads)!r}), Path({str(out)!r}), recipe, 1);"
        "print(found[2], sorted(found[1]))"
    )
    return [sys.executable, "-c", code]


def _are_alike(store: Path, out: Path) -> None:
    """Two stores of the heads hold the same voxels, facts and masks."""
    one, two = PreparedStore.open(store), PreparedStore.open(out)
    for scan_id in ("sub-0_T1w", "sub-1_T1w", "sub-3_T1w"):
        assert one.facts(scan_id).voxels == two.facts(scan_id).voxels
        assert np.array_equal(one.read(scan_id), two.read(scan_id))
        name = f"{file_name(scan_id)}_mask.nii.gz"
        assert (store / "native" / name).read_bytes() == (out / "native" / name).read_bytes()


def test_a_claim_of_a_process_that_is_gone_is_taken_over(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name, owner, age in (
        ("dead", {"host": socket.gethostname(), "pid": gone.pid}, 0),
        ("silent", {"host": "elsewhere", "pid": 1}, STALE_S + 60),
        ("alive", {"host": "elsewhere", "pid": 1}, 0),
    ):
        (tmp_path / name).write_text(json.dumps(owner))
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
    assert [claims.is_held(name) for name in ("dead", "silent", "alive")] == [False, False, True]
    for name in ("dead", "silent", "alive"):
        with claims.held(name) as ours:
            assert ours is (name != "alive")


def test_the_bids_app_fills_and_gathers(
    heads: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bids_app.main([str(heads), str(store), "group"])
    assert "3 scans in" in capsys.readouterr().out
    assert len(read_cohort(store)) == 3
    with pytest.raises(SystemExit) as stopped:
        bids_app.main([str(heads), str(store), "participant", "--participant-label", "9"])
    assert stopped.value.code == 2
    assert "has no T1w scan of sub-9" in capsys.readouterr().err
    asked = []

    def fill(cohort: object, out: Path, recipe: PrepareRecipe, workers: int) -> object:
        asked.append((cohort.scan_ids, recipe.shape, workers))
        raise InputError("far enough")

    monkeypatch.setattr("braintune.imaging.prepare.fill_store", fill)
    label = ["--participant-label", "sub-1", "3"]
    with pytest.raises(SystemExit):
        bids_app.main([*[str(heads), str(store), "participant", "--nprocs", "2"], *label])
    assert asked == [(["sub-1_T1w", "sub-3_T1w"], (91, 109, 91), 2)]
