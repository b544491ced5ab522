"""``braintune-bids``: preparing as a BIDS-App, for sites and clusters that run all tools alike."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from braintune._version import __version__
from braintune.commands.options import print_line
from braintune.errors import BraintuneError

DESCRIPTION = """Prepare the raw T1w heads of a BIDS dataset: bias field, brain mask, MNI152 space.

participant prepares; any number of jobs may fill one output folder at once. group then writes who
is in it, and quality.html, which shows what looks wrong.

Example: braintune-bids bids out participant --participant-label 01 02
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the BIDS-App; exit with 0, 1 (the work failed) or 2 (the input was wrong).

    Args:
        arguments: What follows the command's name; by default, what it was started with.
    """
    options = _parser().parse_args(arguments)
    try:
        print_line(_group(options) if options.level == "group" else _participant(options))
    except BraintuneError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="braintune-bids",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bids_dir", type=Path, help="the BIDS dataset")
    parser.add_argument("out", type=Path, help="folder of the prepared store")
    parser.add_argument("level", choices=["participant", "group"], help="what to do")
    parser.add_argument(
        "--participant-label",
        "--participant_label",
        nargs="+",
        metavar="LABEL",
        help="these participants only, with or without sub-",
    )
    parser.add_argument(
        "--session-id",
        "--session-label",
        nargs="+",
        metavar="LABEL",
        help="these sessions only, with or without ses-",
    )
    parser.add_argument("--preset", default="mni-2mm", help="the preparation (default: mni-2mm)")
    parser.add_argument("--nprocs", type=int, help="processes, by default one a core")
    parser.add_argument("--work", type=Path, help="folder for temporary files")
    parser.add_argument("--version", action="version", version=f"braintune {__version__}")
    return parser


def _participant(options: argparse.Namespace) -> str:
    """Prepare the participants that were asked for; who is in the store is for the group to say."""
    from braintune.cohort.choosing import choose_scans
    from braintune.errors import counted
    from braintune.files import make_folder
    from braintune.imaging.prepare import fill_store
    from braintune.recipe import change_preparation

    if options.work is not None:
        # Programs that are started look at the first, Python at the second.
        os.environ["TMPDIR"] = tempfile.tempdir = str(make_folder(options.work).resolve())
    _, preparation = change_preparation(None, [f"preset={options.preset}"], {})
    cohort = choose_scans(options.bids_dir, options.participant_label, options.session_id)
    prepared = fill_store(cohort, options.out, preparation, workers=options.nprocs)
    return f"{counted(len(prepared.cohort), 'scan')} prepared, {prepared.made} of them now."


def _group(options: argparse.Namespace) -> str:
    """Write who is in the store, and the pages."""
    from braintune.cohort.choosing import choose_scans
    from braintune.reporting.preparation_report import gather_and_look
    from braintune.reporting.preparation_text import preparation_text

    cohort = choose_scans(options.bids_dir, options.participant_label, options.session_id)
    return preparation_text(gather_and_look(cohort, options.out))
