"""Measuring label maps into a folder, with pictures of what was flagged."""

from collections.abc import Sequence
from pathlib import Path

from braintune.cohort.cohort import Cohort
from braintune.errors import InputError
from braintune.files import refuse_occupied
from braintune.volumetry.finding import ScanMap
from braintune.volumetry.pictures import write_pictures
from braintune.volumetry.volumes import Volumes, VolumesRequest, measure_volumes
from braintune.volumetry.writing import write_volumes


def measure_into(
    maps: Sequence[ScanMap], request: VolumesRequest, out: Path, images: Cohort | None = None
) -> Volumes:
    """Measure label maps and write the derivative; nothing is written if the input is wrong.

    Args:
        maps: One a scan (see `find_label_maps`).
        request: How they are measured.
        out: A new or empty folder.
        images: The cohort of the scans that were segmented, to draw labels on.

    Raises:
        InputError: If the folder holds something, no map can be measured, or no image is of one.
    """
    refuse_occupied(out, "the volumes")
    scans = _images_of(maps, images) if images else {}
    volumes = measure_volumes(maps, request)
    write_pictures(volumes, maps, scans, out)
    write_volumes(volumes, request, out)
    return volumes


def _images_of(maps: Sequence[ScanMap], images: Cohort) -> dict[str, Path]:
    """The image of each map's session, by scan."""
    paths = {
        (
            str(row["participant_id"]),
            row["session_id"] if isinstance(row["session_id"], str) else "",
        ): Path(str(row["path"]))
        for row in images.table.to_dict("records")
    }
    found = {
        scan.scan_id: paths[key]
        for scan in maps
        if (key := (scan.participant_id, scan.session_id or "")) in paths
    }
    if not found:
        first = maps[0].participant_id
        msg = f"No image of {images.source} is of a label map's subject, such as {first}."
        raise InputError(msg)
    return found
