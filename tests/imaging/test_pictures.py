import io

import numpy as np
from PIL import Image

from braintune.imaging.pictures import png, sheet, three_slices


def test_slices_show_front_and_top_upwards() -> None:
    image = np.zeros((10, 12, 8), dtype=np.float32)
    image[5, 6, 7] = 1  # the top of the head
    picture = three_slices(image)
    assert picture.shape == (12, 12 + 10 + 10)
    sagittal = picture[:, :12]
    assert sagittal[:4].max() == 255
    assert sagittal[6:].max() == 0


def test_a_flat_image_draws_too() -> None:
    assert len(np.unique(three_slices(np.ones((4, 4, 4), dtype=np.float32)))) == 1


def test_sheets_and_png() -> None:
    pictures = [np.full((5, 7), value, dtype=np.uint8) for value in (0, 100, 200)]
    big = sheet(pictures, columns=2)
    assert big.shape == (14, 18)
    assert big[8, 2] == 200
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(big)))), big)


def test_the_background_is_black_though_the_brain_goes_below_zero() -> None:
    image = np.zeros((10, 10, 10), dtype=np.float32)
    image[2:8, 2:8, 2:8] = np.random.default_rng(0).normal(size=(6, 6, 6))
    picture = three_slices(image)
    assert picture[0, 0] == 0
    assert np.median(picture[3:7, 3:7]) > 60
