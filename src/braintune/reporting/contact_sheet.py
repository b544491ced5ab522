"""A picture of a prepared store: the middle slices of its scans, to look over in a minute."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from braintune.files import write_bytes
from braintune.imaging.pictures import three_slices
from braintune.imaging.store import PreparedStore

MOST = 40
_COLUMNS = 4


def write_contact_sheet(path: Path, store: PreparedStore, scan_ids: Sequence[str]) -> int:
    """Draw up to forty scans, spread over the cohort, each under its id.

    Returns:
        How many scans are on the sheet.
    """
    chosen = [
        scan_ids[i]
        for i in np.linspace(0, len(scan_ids) - 1, min(MOST, len(scan_ids))).round().astype(int)
    ]
    rows = -(-len(chosen) // _COLUMNS)
    with mpl.rc_context({"font.size": 7, "text.parse_math": False}):
        figure = Figure(figsize=(_COLUMNS * 3.2, rows * 1.5), facecolor="black")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, _COLUMNS, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, scan_id in zip(grid.flat, chosen, strict=False):
            axes.imshow(three_slices(store.read(scan_id)[0]), cmap="gray", vmin=0, vmax=255)
            axes.set_title(scan_id, color="white", pad=2)
        figure.subplots_adjust(0.01, 0.01, 0.99, 0.97, wspace=0.03, hspace=0.2)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getvalue())
    return len(chosen)
