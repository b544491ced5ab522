import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from braintune.errors import InputError
from braintune.imaging.loader import ScanLoader
from braintune.imaging.store import PreparedStore
from imaging.test_store import RECIPE, scan


@pytest.fixture
def loader(tmp_path: Path) -> ScanLoader:
    store = PreparedStore.create(tmp_path, RECIPE)
    for number in range(6):
        store.write(f"s{number}", scan(number), "")
    return ScanLoader(store, [f"s{number}" for number in range(6)])


def test_batches_come_in_order(loader: ScanLoader) -> None:
    rows = [[0, 1], [5], [2, 2, 3], [4, 0]] * 5
    for wanted, batch in zip(rows, loader.batches(rows), strict=True):
        assert batch.dtype == torch.float16
        expected = np.stack([scan(row).image for row in wanted])
        assert np.array_equal(batch.numpy(), expected)


def test_held_batches_stay_as_they_are(loader: ScanLoader) -> None:
    rows = [[number % 6] for number in range(30)]
    batches = loader.batches(rows, held=3)
    for step in range(10):
        together = [next(batches) for _ in range(3)]
        for number, batch in enumerate(together):
            expected = scan(rows[3 * step + number][0]).image
            assert np.array_equal(batch[0].numpy(), expected)


def test_memory_goes_round(loader: ScanLoader) -> None:
    places = {batch.data_ptr() for _ in range(5) for batch in loader.batches([[0, 1]] * 20)}
    assert len(places) <= 4


def test_stopping_early_leaves_no_thread(loader: ScanLoader) -> None:
    before = threading.active_count()
    for _ in range(5):
        batches = loader.batches([[0]] * 100)
        next(batches)
        batches.close()
    assert threading.active_count() == before


def test_an_error_reaches_the_reader(loader: ScanLoader) -> None:
    loader.scan_ids[3] = "gone"
    batches = loader.batches([[0], [3], [1]])
    next(batches)
    with pytest.raises(InputError, match="holds no scan 'gone'"):
        next(batches)
