"""What the results page says of adapters: what they cost, and what they reach on real scans."""

from typing import Any

from markdown_tables import hardware, ratio, row, with_range

_COST = """
## Cost of adapters

A training step with LoRA of rank {rank} on every linear layer and convolution, and its peak memory:
here, in Hugging Face's peft {peft}, and of full tuning, all on the same network. ``plain`` is the
loop of a tutorial: float32, contiguous memory, Adam. ``fp32`` and ``default`` have braintune's
memory layout and optimiser, in float32 and in its default precision. Peak memory is the whole
process's, of which {base} MB are Python and its libraries. Each contender runs in a fresh process
and contenders take turns; shares are the median of the rounds with their range, and below 1× ours
takes less.
"""
_STUDY = """
## Adapting to few real scans

A small SFCN ({channels} channels, instance norm, 4 mm) learnt the age of {subjects} simulated heads
and was adapted to real ones: {cohort}, {folds}. Each method took the best of its own four learning
rates on validation rows, then ran with {seeds} seeds; the seeds' mean is shown, with 95 % intervals
over the tested subjects. Differences are paired over subjects; *real* ones exclude zero after
Holm's correction. The intervals hold for the training rows that were drawn: others would move every
row of the table.
"""


def adapters(result: dict[str, Any]) -> str:
    """The section on cost."""
    environment = result["environment"]
    lines = [
        _COST.format(
            rank=result["rank"],
            peft=environment["packages"]["peft"],
            base=round(result["base_mb"]),
        ),
        f"Hardware: {hardware(environment)}, {environment['threads']} threads.\n",
    ]
    names = list(next(iter(result["cases"].values()))["contenders"])
    lines += [row(["", "images", *names]), row(["---", "---", *["---:"] * len(names)])]
    for name, case in result["cases"].items():
        cells = [
            f"{case['contenders'][n]['step']:.2f} s, {case['contenders'][n]['peak_mb']:.0f} MB"
            for n in names
        ]
        lines.append(row([f"`{name}`", " × ".join(map(str, case["images"])), *cells]))
    claims = list(next(iter(result["cases"].values()))["claims"])
    lines += ["", row(["ours takes of …", *[f"`{name}`" for name in result["cases"]]])]
    lines.append(row(["---", *["---:"] * len(result["cases"])]))
    for claim in claims:
        for key, label in (("step", "time"), ("peak_mb", "memory")):
            cells = [ratio(case["claims"][claim][key]) for case in result["cases"].values()]
            lines.append(row([f"{claim}: {label}", *cells]))
    starts = ", ".join(f"{name} {s:g} s" for name, s in result["start_seconds"].items())
    lines.append(f"\nPutting adapters of rank 8 on all convolutions of FMCIB takes: {starts}.\n")
    return "\n".join(lines)


def adaptation(result: dict[str, Any]) -> str:
    """The section on real scans."""
    tables = result["tables"]
    channels = result["recipe"]["backbone"]["channels"]
    text = _STUDY.format(
        channels="-".join(map(str, channels)),
        subjects=result["pre_training"]["subjects"],
        cohort=result["cohort"],
        folds=_folds(result["folds"], result["tested"]),
        seeds=result["seeds"],
    )
    lines = [text, f"Hardware: {hardware(result['environment'])}."]
    for name, part in tables.items():
        target, _, size = name.partition(", ")
        rows = f"{'all ' if size == 'all' else ''}{part['train_rows'][0]}"
        unit = "mean absolute error in years" if part["metric"] == "mae" else "ROC-AUC"
        lines.append(f"\n### {target.capitalize()} from {rows} subjects: {unit}\n")
        titles = ["", unit, "trains", "minus full tuning", "minus scratch", "learning rates"]
        lines += [row(titles), row(["---", "---", "---:", "---", "---", "---"])]
        for method, one in part["methods"].items():
            against = [_against(one.get(f"against_{other}")) for other in ("full", "scratch")]
            rates = ", ".join(f"{rate:g}" for rate in one["lr"])
            cells = [with_range(one["score"]), f"{one['trainable']:,}", *against, rates]
            lines.append(row([f"`{method}`", *cells]))
        for label, score in part["baselines"].items():
            lines.append(row([label, with_range(score), "", "", "", ""]))
        lines += ["", _real_differences(part)]
    return "\n".join(lines) + "\n"


def _real_differences(part: dict[str, Any]) -> str:
    """Which differences are real, in words."""
    lower_is_better = part["metric"] == "mae"
    sentences = []
    for other, called in (("full", "full tuning"), ("scratch", "random weights")):
        against = {m: one.get(f"against_{other}") for m, one in part["methods"].items()}
        found = {m: gap for m, gap in against.items() if gap is not None and gap["real"]}
        better = [m for m, gap in found.items() if (gap["difference"][0] < 0) == lower_is_better]
        worse = [m for m in found if m not in better]
        parts = [
            f"{word} {', '.join(f'`{m}`' for m in names)}"
            for word, names in (("better are", better), ("worse are", worse))
            if names
        ]
        sentences.append(f"Against {called}, really {'; really '.join(parts)}." if parts else "")
        if not parts:
            sentences[-1] = f"Against {called}, no difference is real."
    return " ".join(sentences)


def _folds(folds: int, tested: int) -> str:
    if folds == 3:
        return f"three folds that test all {tested} subjects"
    return f"{folds} of three folds, which tests {tested} subjects"


def _against(one: dict[str, Any] | None) -> str:
    if one is None:
        return ""
    verdict = "**real**" if one["real"] else "not settled"
    return f"{with_range(one['difference'])}, {verdict}"
