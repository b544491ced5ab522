"""Where weight files lie."""

from pathlib import Path

from braintune.errors import InputError
from braintune.files import cache_folder
from braintune.models.weights.record import WeightRecord


def weights_folder() -> Path:
    """The folder of all fetched weights."""
    return cache_folder() / "weights"


def file_of(record: WeightRecord) -> Path:
    """Where a record's converted file lies, whether it is there or not."""
    return weights_folder() / f"{record.name}.safetensors"


def demand_file(record: WeightRecord) -> Path:
    """A record's converted file.

    Raises:
        InputError: If it was not fetched yet; nothing is downloaded here.
    """
    path = file_of(record)
    if not path.is_file():
        msg = (
            f"The weights {record.name} are not on this computer. {how_to_get(record)} Where there"
            f" is no network, copy {path.name} from another computer to {path}."
        )
        raise InputError(msg)
    return path


def how_to_get(record: WeightRecord) -> str:
    """What to do to have a record's file, in words.

    Example:
        >>> from braintune.models.weights.record import Source, WeightRecord
        >>> source = Source(manual="Ask the authors.")
        >>> mine = WeightRecord(backbone="sfcn", tag="x", source=source, licence="–", citation="–")
        >>> how_to_get(mine)
        "Ask the authors. Then give 'braintune models convert sfcn.x DOWNLOADED_FILE'."
    """
    source = record.source
    if source is not None and source.url is not None:
        return f"Give 'braintune models fetch {record.name}'."
    words = (source and source.manual) or "No place is known from which they could be fetched."
    return f"{words} Then give 'braintune models convert {record.name} DOWNLOADED_FILE'."
