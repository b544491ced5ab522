"""The page of a study: who wins, what is noise, what it costs; from the study's files alone."""

from pathlib import Path
from typing import Any

from braintune.errors import InputError
from braintune.files import read_json, write_text
from braintune.reporting import study_figures
from braintune.reporting.pages import fill
from braintune.reporting.study_text import context_title
from braintune.studies.folder import StudyFolder

# A page of thousands of rows is not read; leaderboard.tsv has all.
_MOST_ENTRIES = 60
_MOST_FAILURES = 30
_MOST_CONTEXTS_DRAWN = 24


def write_study_report(path: Path) -> Path:
    """Write ``study.html`` into a study.

    Returns:
        The page.

    Raises:
        InputError: If the study has no scores yet.
    """
    folder = StudyFolder.open(path)
    if not folder.document_file.exists():
        raise InputError(f"{path} has no scores yet. Give the same compare command again.")
    write_text(folder.page_file, fill("study_report.html.j2", _context(folder)))
    return folder.page_file


def _context(folder: StudyFolder) -> dict[str, Any]:
    document = read_json(folder.document_file)
    contexts = document["contexts"]
    shown = [_shown(context, number) for number, context in enumerate(contexts)]
    failures = folder.events("fit failed")
    return {
        "study": document,
        "title": f"Study: {', '.join(dict.fromkeys(c['target'] for c in contexts))}",
        "contexts": shown,
        "failures": failures[:_MOST_FAILURES],
        "n_failures": len(failures),
        "recipe": folder.recipe_file.read_text(encoding="utf-8"),
        "environment": read_json(folder.environment_file),
        "openings": len(folder.events("test opened")),
    }


def _shown(context: dict[str, Any], number: int) -> dict[str, Any]:
    entries = context["entries"]
    figures = _figures(context) if number < _MOST_CONTEXTS_DRAWN else []
    return {
        **context,
        "title": context_title(context),
        "entries": entries[:_MOST_ENTRIES],
        "n_hidden": max(0, len(entries) - _MOST_ENTRIES),
        "figures": figures,
    }


def _figures(context: dict[str, Any]) -> list[dict[str, str]]:
    figures = [
        {
            "svg": study_figures.leaderboard(context),
            "caption": "Scores with 95 % intervals over subjects. Intervals may overlap though a"
            " paired difference is real: see the column of differences.",
            "wide": "yes",
        }
    ]
    if len(context["entries"]) > 1:
        figures.append(
            {
                "svg": study_figures.critical_difference(context),
                "caption": "A bar joins entries of which no two are told apart by the corrected"
                " test. What no bar joins differs by more than noise.",
                "wide": "yes",
            }
        )
    if sum(not entry["trivial"] for entry in context["entries"]) > 1:
        figures += [
            {
                "svg": study_figures.pareto(context, cost, label),
                "caption": "No choice beats those on the line in both. Left is cheaper.",
            }
            for cost, label in (
                ("seconds", "seconds a fit"),
                ("trainable", "trainable parameters"),
            )
        ]
    return figures
