"""Some participants and sessions of a BIDS dataset, by their labels."""

from collections.abc import Sequence
from pathlib import Path

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.errors import InputError, listing, nearest
from braintune.recipe import ScansRecipe


def choose_scans(
    source: Path, participants: Sequence[str] | None, sessions: Sequence[str] | None
) -> Cohort:
    """Read the T1w scans of a BIDS dataset, or those of some participants and sessions.

    Args:
        source: The dataset.
        participants: Labels, with or without ``sub-``; all if there are none.
        sessions: Labels, with or without ``ses-``; all if there are none.

    Raises:
        InputError: If a participant is not there, or no scan is left.
    """
    chosen = [label.removeprefix("ses-") for label in sessions or []]
    cohort = read_cohort(source, ScansRecipe(session=chosen or None))
    if not participants:
        return cohort
    wanted = [f"sub-{label.removeprefix('sub-')}" for label in participants]
    known = set(cohort.table["participant_id"])
    unknown = [name for name in wanted if name not in known]
    if unknown:
        msg = f"{source} has no T1w scan of {listing(unknown)}.{nearest(unknown[0], known)}"
        raise InputError(msg)
    rows = cohort.table[cohort.table["participant_id"].isin(wanted)].reset_index(drop=True)
    return Cohort(cohort.source, rows)
