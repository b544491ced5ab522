"""What finished work says on the terminal, and its document for machines."""

from pathlib import Path
from typing import Any

from rich.table import Table

from braintune.errors import counted
from braintune.files import read_json
from braintune.fitting.network import RecipeAudit
from braintune.fitting.predict import Prediction
from braintune.reporting.findings import against_baselines, chance
from braintune.reporting.numbers import duration, rounded, with_interval
from braintune.reporting.registry_text import rendered
from braintune.run import RunFolder


def run_document(run: RunFolder) -> dict[str, Any]:
    """A finished run as JSON: where it is, and its metrics."""
    return {
        "run": str(run.path),
        "report": str(run.report_file),
        **read_json(run.metrics_file),
    }


def run_text(run: RunFolder) -> str:
    """A finished run in a few lines."""
    metrics = read_json(run.metrics_file)
    summary = (
        f"{metrics['scans']} scans of {metrics['subjects']} subjects, {metrics['folds']} folds,"
        f" {duration(metrics['seconds'])} of training; 95 % intervals over subjects"
    )
    lines = [
        summary,
        beside_baselines(metrics, "network"),
        *[sentence for sentence in [chance(metrics)] if sentence],
        *[sentence for _, sentence in against_baselines(metrics)],
        f"Report: {run.report_file}",
    ]
    return "\n".join(lines)


def beside_baselines(metrics: dict[str, Any], predictor: str) -> str:
    """Every metric of what predicted, a network or a model, and of the baselines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column(predictor)
    for baseline in metrics["baselines"].values():
        table.add_column(baseline["label"], justify="right")
    for name, entry in metrics["metrics"].items():
        others = [rounded(b["metrics"][name]["value"]) for b in metrics["baselines"].values()]
        table.add_row(entry["label"], with_interval(entry), *others)
    return rendered(table)


def prediction_document(prediction: Prediction, out: Path) -> dict[str, Any]:
    """Predictions as JSON."""
    rows = prediction.table.astype(object)
    return {
        "out": str(out),
        "failed": prediction.failed,
        "predictions": rows.where(rows.notna(), None).to_dict("records"),
    }


def prediction_text(prediction: Prediction, out: Path) -> str:
    """How many scans were predicted, which carry warnings, which could not be used."""
    table = prediction.table
    lines = [f"{counted(len(table) - prediction.failed, 'scan')} predicted in {out}."]
    for column, title in (("warning", "Unlike the fit's scans"), ("problem", "Not usable")):
        rows = table[table[column].notna()] if column in table else table.iloc[:0]
        if len(rows):
            lines.append(f"{title}: {len(rows)}")
            lines += [
                f"  {scan}: {text}"
                for scan, text in zip(rows["scan_id"][:20], rows[column][:20], strict=True)
            ]
    return "\n".join(lines)


def recipe_audit_document(audit: RecipeAudit) -> dict[str, Any]:
    """The counts of a recipe as JSON."""
    counts = audit.parameters
    return {
        "total": counts.total,
        "trainable": counts.trainable,
        "frozen": counts.frozen,
        "parts": counts.parts,
        "trainable_parts": counts.trainable_parts,
        "published_backbone": audit.published,
        "memory_bytes": audit.memory,
    }


def recipe_audit_text(audit: RecipeAudit) -> str:
    """The counts of a recipe as a table."""
    counts = audit.parameters
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("part")
    for column in ("parameters", "trainable", "frozen"):
        table.add_column(column, justify="right")
    for name, count in counts.parts.items():
        trains = counts.trainable_parts[name]
        table.add_row(name, f"{count:,}", f"{trains:,}", f"{count - trains:,}")
    table.add_row("total", f"{counts.total:,}", f"{counts.trainable:,}", f"{counts.frozen:,}")
    memory = ", ".join(
        f"{name.replace('_', ' ')} {size / 1e6:,.0f} MB" for name, size in audit.memory.items()
    )
    return (
        f"{rendered(table)}\n"
        f"The backbone in its published form and size: {audit.published:,} parameters.\n"
        f"Memory to train in float32, about: {memory}."
    )
