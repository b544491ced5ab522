"""What a diagnosis says on the terminal."""

from rich.table import Table

from braintune.files import read_json
from braintune.fitting.diagnosis_run import IMPORTANCE
from braintune.reporting.findings import against_baselines, chance
from braintune.reporting.numbers import with_interval
from braintune.reporting.registry_text import rendered
from braintune.reporting.run_text import beside_baselines
from braintune.run import RunFolder

_MOST = 8


def diagnosis_text(run: RunFolder) -> str:
    """The metrics beside those of the baselines, and what the columns are worth."""
    metrics = read_json(run.metrics_file)
    worth = Table(box=None, pad_edge=False, header_style="bold")
    worth.add_column("column")
    worth.add_column("rise of the log loss when permuted", justify="right")
    for entry in read_json(run.path / IMPORTANCE)[:_MOST]:
        worth.add_row(entry["column"], with_interval(entry["log_loss_rise"]))
    summary = (
        f"{metrics['scans']} scans of {metrics['subjects']} subjects, {metrics['folds']} folds;"
        " 95 % intervals over subjects"
    )
    lines = [
        summary,
        beside_baselines(metrics, "model"),
        *[sentence for sentence in [chance(metrics)] if sentence],
        *[sentence for _, sentence in against_baselines(metrics, "model")],
        rendered(worth),
        f"Report: {run.report_file}",
    ]
    return "\n".join(lines)
