"""What the results page says of pre-training on generated scans, for values and for label maps."""

from typing import Any

from markdown_tables import hardware, row, with_range

_PRETRAINING = """
## Pre-training on generated scans

{generated:,} scans were made from the label maps of 20 adults at 4 mm, with planted ages and
sexes. {networks} saw them {epochs} times in each of three ways: *supervised* (age, sex, volumes),
*masked* and *contrastive* (by age). Then it learnt about real people, {cohort}, from a share of the
training rows. {folds} folds test everybody once, with {seeds} seeds each. Each way took the best of
its own three learning rates on validation rows. Intervals are over subjects; p is of Nadeau and
Bengio's corrected test over folds and seeds, with Holm's correction within a table.
"""
_HIPPOCAMPUS = """
## Few labelled scans of the hippocampus

A Swin UNETR of {feature_size} channels learnt the tissues of {generated:,} scans that were
generated around the hippocampi of 20 adults' label maps, at 1 mm. Then it learnt the two halves
of the real hippocampus: {cohort}. Beside the adapters of the transformer, the decoder trains, as
in HyPS. Each way took the best of its own {rates} learning rates on validation cases, then ran
with {seeds} seeds. Dice is the mean over the test cases, with 95 % intervals over them; *real*
differences of the mean of both labels exclude zero after Holm's correction.
"""


def pretraining(result: dict[str, Any]) -> str:
    """The section on values of real people."""
    text = _PRETRAINING.format(
        **{key: result[key] for key in ("generated", "epochs", "cohort", "folds", "seeds")},
        networks=" and ".join(map(_described, result["networks"].values())),
    )
    took = [f"{name} {seconds} s" for name, seconds in result["pre_training_seconds"].items()]
    lines = [text, f"Hardware: {hardware(result['environment'])}. On one core: {', '.join(took)}."]
    for target in result["baselines"]:
        parts = {k: v for k, v in result["tables"].items() if k.startswith(f"{target}, ")}
        metric = next(iter(parts.values()))["metric"]
        unit = "mean absolute error in years" if metric == "mae" else "ROC-AUC"
        lines.append(f"\n### {target.capitalize()}: {unit}\n")
        starts = list(next(iter(parts.values()))["starts"])
        lines += [row(["network, training rows", *starts]), row(["---"] * (1 + len(starts)))]
        for name, part in parts.items():
            _, network, share = name.split(", ")
            label = f"{network}, {round(100 * float(share))} % ({part['train_rows'][0]})"
            lines.append(row([label, *[_cell(part["starts"][start]) for start in starts]]))
        floors = [f"{name} {with_range(v)}" for name, v in result["baselines"][target].items()]
        lines.append(f"\nWithout images, from all rows: {'; '.join(floors)}.")
    return "\n".join(lines) + "\n"


def _described(network: dict[str, Any]) -> str:
    options = {key: value for key, value in network.items() if key != "name"}
    listed = ", ".join(f"{key} {value}" for key, value in options.items())
    return f"`{network['name']}` ({listed})"


def _cell(one: dict[str, Any]) -> str:
    score = with_range(one["score"])
    if "p_holm" not in one:
        return score
    p = "p < 0.001" if one["p_holm"] < 0.001 else f"p {one['p_holm']:.2g}"
    return f"{score}; {p}"


def hippocampus(result: dict[str, Any]) -> str:
    """The section on label maps."""
    text = _HIPPOCAMPUS.format(
        feature_size=result["backbone"]["feature_size"],
        rates=len(result["learning_rates"]),
        **{key: result[key] for key in ("generated", "cohort", "seeds")},
    )
    minutes = round(result["pre_training_seconds"] / 60)
    lines = [text, f"Hardware: {hardware(result['environment'])}; pre-training {minutes} minutes."]
    for size, methods in result["tables"].items():
        lines.append(f"\n### From {size} cases\n")
        titles = ["", "anterior", "posterior", "minus scratch", "minus full tuning", "seconds"]
        lines += [row(titles), row(["---"] * len(titles))]
        for name, one in methods.items():
            gaps = [_gap(one.get(f"against_{other}")) for other in ("scratch", "full")]
            dice = [with_range(one[label]) for label in ("anterior", "posterior")]
            lines.append(row([f"`{name}`", *dice, *gaps, f"{one['seconds']:g}"]))
    return "\n".join(lines) + "\n"


def _gap(one: dict[str, Any] | None) -> str:
    if one is None:
        return ""
    return f"{with_range(one['difference'])}, {'**real**' if one['real'] else 'not settled'}"
