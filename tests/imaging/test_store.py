import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from braintune.errors import InputError
from braintune.imaging.preparation import PreparedScan
from braintune.imaging.store import PreparedStore
from braintune.recipe import PrepareRecipe

RECIPE = PrepareRecipe(spacing=2.0, shape=(6, 7, 8))


def scan(seed: int = 0, shape: tuple[int, int, int] = (6, 7, 8)) -> PreparedScan:
    image = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float16)
    return PreparedScan(image, np.diag([2.0, 2, 2, 1]), 1234.5, f"hash{seed}")


def write_many(path: Path, start: int) -> None:
    store = PreparedStore.create(path, RECIPE)
    for number in range(start, start + 20):
        store.write(f"scan{number}", scan(number), "source")


def test_scans_and_facts_come_back(tmp_path: Path) -> None:
    store = PreparedStore.create(tmp_path / "store", RECIPE)
    store.write("a/../b", scan(), "here")
    assert "a/../b" in store
    assert "c" not in store
    assert np.array_equal(store.read("a/../b"), scan().image)
    crop = (slice(1, 4), slice(2, 3), slice(0, 8))
    assert np.array_equal(store.read("a/../b", crop), scan().image[:, 1:4, 2:3])
    facts = store.facts("a/../b")
    assert (facts.brain_ml, facts.voxels, facts.source) == (1234.5, "hash0", "here")
    # An id is no path: nothing was written outside of the store.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]


def test_a_store_of_another_preparation_is_refused(tmp_path: Path) -> None:
    PreparedStore.create(tmp_path / "store", RECIPE)
    with pytest.raises(InputError, match=r"prepared with spacing 2.0 instead of 3.0"):
        PreparedStore.create(tmp_path / "store", RECIPE.model_copy(update={"spacing": 3.0}))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is no prepared store"):
        PreparedStore.create(tmp_path / "other", RECIPE)
    with pytest.raises(InputError, match="does not exist"):
        PreparedStore.open(tmp_path / "none")


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    PreparedStore.create(tmp_path, RECIPE)
    description = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps({**description, "fingerprint": "0"}))
    with pytest.raises(InputError, match="another version of braintune"):
        PreparedStore.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x10\0\0\0\0\0\0\0{}"])
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    store = PreparedStore.create(tmp_path, RECIPE)
    store.write("a", scan(), "")
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(content)
    for look in (store.read, store.facts):
        with pytest.raises(InputError, match="missing or broken|holds no scan"):
            look("a")
    with pytest.raises(InputError, match="holds no scan 'b'"):
        store.read("b")


def test_a_scan_of_another_shape_is_broken(tmp_path: Path) -> None:
    store = PreparedStore.create(tmp_path, RECIPE)
    store.write("a", scan(shape=(6, 7, 9)), "")
    with pytest.raises(InputError, match="missing or broken"):
        store.facts("a")


def test_several_processes_may_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=write_many, args=(tmp_path / "s", n)) for n in (0, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store = PreparedStore.open(tmp_path / "s")
    for number in range(30):
        assert np.array_equal(store.read(f"scan{number}"), scan(number).image)
    assert not list((tmp_path / "s").rglob("*.tmp"))


def test_a_crop_is_read_without_the_rest(tmp_path: Path) -> None:
    """Reading a 96³ crop of a 1 mm scan takes milliseconds, however large the scan."""
    store = PreparedStore.create(tmp_path, PrepareRecipe(spacing=1.0, shape=(182, 218, 182)))
    store.write("a", scan(shape=(182, 218, 182)), "")
    crop = (slice(40, 136), slice(60, 156), slice(40, 136))
    times = []
    for _ in range(9):
        start = time.perf_counter()
        total = np.array(store.read("a", crop))
        times.append(time.perf_counter() - start)
    assert total.shape == (1, 96, 96, 96)
    # About a millisecond on an idle machine; ten leave room for a busy one.
    assert sorted(times)[4] < 0.01


def test_opening_does_not_depend_on_the_number_of_scans(tmp_path: Path) -> None:
    store = PreparedStore.create(tmp_path, RECIPE)
    template = scan()
    store.write("scan0", template, "")
    source = next(tmp_path.rglob("*.safetensors"))
    for number in range(1, 3000):
        path = store._file(f"scan{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(source)
    start = time.perf_counter()
    opened = PreparedStore.open(tmp_path)
    assert "scan2999" in opened
    assert opened.read("scan1500").shape == (1, 6, 7, 8)
    assert time.perf_counter() - start < 0.1
