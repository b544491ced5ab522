"""A cohort from a bare list of image files."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from braintune.cohort.bids import parse_name
from braintune.cohort.cohort import Cohort


def cohort_of_files(source: Path, files: Sequence[Path]) -> Cohort:
    """One row a file; BIDS names give subject and session, other names are subjects themselves.

    Files of the same name in different folders are told apart by their folders.
    """
    repeated = Counter(path.name for path in files)
    rows = []
    for path in files:
        stem = path.name.split(".nii")[0]
        if repeated[path.name] > 1:
            stem = "_".join([*path.relative_to(source).parent.parts, stem])
        entities = parse_name(path.name) or {}
        rows.append(
            {
                "scan_id": stem,
                "participant_id": f"sub-{entities['sub']}" if entities else stem,
                "session_id": f"ses-{entities['ses']}" if "ses" in entities else None,
                "path": str(path.resolve()),
            }
        )
    return Cohort(source, pd.DataFrame(rows, dtype="string"))
