"""Write `docs/results.md` and the README's table from the benchmarks' JSON; no number is typed.

python benchmarks/tables.py
"""

from pathlib import Path
from typing import Any

from adapter_tables import adaptation, adapters
from braintune.errors import counted
from braintune.files import read_json, write_text
from braintune.reporting.numbers import duration, with_interval
from heads_tables import raw_heads
from learning_tables import hippocampus, pretraining
from markdown_tables import hardware, ratio, row
from measuring import RESULTS
from study_tables import study

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
README = Path(__file__).parents[1] / "README.md"
_MARKS = ("<!-- results: benchmarks/tables.py -->\n", "<!-- end of results -->")
_RECIPES = ("brain-age", "sex")
_BASELINES = ("constant", "age_sex", "brain_volume")
_STUDIES = {
    "prepare": raw_heads,
    "adaptation": adaptation,
    "pretraining": pretraining,
    "hippocampus": hippocampus,
    "study": study,
}
_SHOWN = ("mae", "rmse", "r", "r2", "auc", "balanced_accuracy", "brier", "ece")

_HEAD = """# Results

After this page you will know what braintune reached where it was measured, on what hardware, and
how to measure it again. `benchmarks/tables.py` writes this page from the JSON files in
`benchmarks/results/`; no number is typed.
"""
_ACCURACY = """
## Accuracy on real scans

Five-fold cross-validation over subjects; 95 % intervals over subjects. The baselines see the table
only and are fitted and tested on the same rows. Networks train from random weights.
"""
_ACCURACY_NOTES = """
Measure again with `python benchmarks/accuracy.py recipes/RECIPE.yaml --cohort COHORT --name NAME`.
Another processor or number of threads, or a later version that adds in another order, rounds
differently: expect other last digits, within the intervals.

What helped, seen while the age recipe was tuned by cross-validation within the 95 rows of IXI that
its own split calls train. Those rows are part of the cross-validation above, so its errors are a
little kinder than on a cohort that nobody has looked at; the sex recipe took the same settings over
untuned, with fewer epochs.

- **Instance norm instead of batch norm.** With 4 to 8 volumes a batch, the statistics of batch norm
  are noise: validation errors jumped above 20 years between epochs. Instance norm is steady.
- **Enough epochs.** Errors still fell between 40 and 60 epochs.
- **Moderate augmentation.** `heavy` underfits at this number of epochs.
- **Freed memory kept for the next step** instead of given back to the system: half the time of a
  step (0.94 s to 0.46 s for this network on this processor).

Set for their reasons, without a measurement of their own: a moving average of the weights (`ema`),
the last epoch instead of the best one (with 14 validation subjects the best is mostly luck), and
the average over mirror images (`flip_average`).
"""
_LOADING = """
## Speed of loading

Scans a second from the page cache to batches, and how many times faster braintune was: the median
of the rounds, with their range. All contenders take turns in one process on the same simulated
scans; of 0 and 2 worker processes, MONAI and TorchIO get what serves them better. Batches are
float32, but for the first row of each size: braintune's are float16 and are cast where the network
computes, the next row casts them on the processor.

Each library augments with its own transforms, set to the same kinds and like strengths: the results
are alike, not equal. `light` augmentation is flip, affine, gain, offset and noise; `standard`, the
default, adds elastic deformation, gamma and a bias field. braintune's costs one interpolation in
both, so it gains most where more is asked for. Augmentation runs on the processor here; braintune
runs it where the network computes, in batches.
"""
_BACKBONES = """
## Speed of the backbones

A training step and a forward pass of each backbone with a linear head: seconds with braintune's
default precision and memory layout, with float32, and with the loop of MONAI's tutorials (float32,
contiguous memory, `torch.optim.Adam`). Where MONAI has the architecture, its own network runs in
that loop, else the same network as ours. braintune's steps also clip gradients. Each contender runs
in a fresh process and contenders take turns. The ratio is the median of two or three rounds, with
its range; without a range there was one round. Networks with a decoder run without it.

Some layers run in float32 within bfloat16 networks: those whose input is smaller than their kernel,
because bfloat16 gradients are wrong there, and depthwise ones, because it is faster.
"""
_AUGMENTATION = """
## Cost of augmentation

Seconds for a batch of 8 scans at 2 mm (80 × 96 × 80), and the share of a ResNet-18 training step on
the same batch in the same round: the median of the rounds, with its range. Augmentation runs in
float32 where the network computes. Single kinds are measured with the amount that `heavy` has;
every row pays for the one interpolation of all geometry.
"""


def main() -> None:
    """Write the page and the table."""
    write_text(PAGE, page())
    write_text(README, readme(README.read_text(encoding="utf-8")))


def readme(text: str) -> str:
    """The README with the table of today's results."""
    before, _, rest = text.partition(_MARKS[0])
    _, _, after = rest.partition(_MARKS[1])
    return f"{before}{_MARKS[0]}{_headlines()}{_MARKS[1]}{after}"


def _headlines() -> str:
    """A row a recipe: the headline of the network and of each baseline."""
    lines = [
        row(["", "the network", "knowing nothing", "age and sex only", "brain volume only"]),
        row(["---"] * 5),
    ]
    for name in _RECIPES:
        result = read_json(RESULTS / f"{name}.json")
        metrics = result["metrics"]
        headline = metrics["headline"]
        label = f"{result['recipe']['task']['target']}, {metrics['metrics'][headline]['label']}"
        cells = [metrics["metrics"][headline]]
        cells += [metrics["baselines"][b]["metrics"][headline] for b in _BASELINES]
        lines.append(row([label, *[with_interval(cell) for cell in cells]]))
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page's Markdown."""
    parts = [_HEAD, _ACCURACY]
    parts += [_accuracy(read_json(RESULTS / f"{name}.json")) for name in _RECIPES]
    parts += [_ACCURACY_NOTES, _LOADING, _loading(read_json(RESULTS / "loading.json"))]
    parts += [_BACKBONES, _backbones(read_json(RESULTS / "backbones.json"))]
    parts += [_AUGMENTATION, _augmentation(read_json(RESULTS / "augmentation.json"))]
    parts += [adapters(read_json(RESULTS / "adapters.json"))]
    for name, section in _STUDIES.items():
        if (RESULTS / f"{name}.json").exists():
            parts += [section(read_json(RESULTS / f"{name}.json"))]
    return "".join(parts)


def _accuracy(result: dict[str, Any]) -> str:
    metrics = result["metrics"]
    target = result["recipe"]["task"]["target"]
    methods = {"the network": metrics["metrics"]}
    if metrics.get("adjusted"):
        methods["the network, bias-adjusted"] = metrics["adjusted"]
    methods |= {b["label"]: b["metrics"] for b in metrics["baselines"].values()}
    shown = [name for name in _SHOWN if name in metrics["metrics"]]
    labels = [metrics["metrics"][name]["label"] for name in shown]
    lines = [f"\n### {target.capitalize()}: {result['cohort']}\n"]
    lines.append(row(["", *labels]))
    lines.append(row(["---"] * (1 + len(labels))))
    for label, values in methods.items():
        lines.append(row([label, *[with_interval(values[name]) for name in shown]]))
    seconds = result["seconds_per_fold"]
    each = ", ".join(f"{value:.3g}" for value in metrics["metrics"][metrics["headline"]]["folds"])
    lines.append(
        f"\nFolds: {each}. Training took {duration(min(seconds))} to {duration(max(seconds))} a"
        f" fold on {hardware(result['environment'])}. {result['note']}".rstrip()
        + "\n"
    )
    return "\n".join(lines)


def _loading(result: dict[str, Any]) -> str:
    lines = [f"\nHardware: {hardware(result['environment'])}.\n"]
    lines.append(row(["Scans, augmentation", "Loader", "Scans a second", "braintune is faster"]))
    lines.append(row(["---", "---", "---:", "---:"]))
    for case, rows in result["loading"].items():
        for name, one in rows.items():
            low, high = one["times_faster_range"]
            faster = (
                f"{one['times_faster']:g}× ({low:g} to {high:g})" if name != "braintune" else ""
            )
            lines.append(row([case, name, f"{one['scans_per_second']:g}", faster]))
    lines.append(
        f"\nReading a 96³ crop of one prepared 1 mm scan takes {result['crop_ms']:g} ms. A store of"
        f" 100,000 scans opens, and gives one of them, in {result['open_entries_seconds']:g} s.\n"
    )
    return "\n".join(lines)


def _backbones(result: dict[str, Any]) -> str:
    lines = [f"\nHardware: {hardware(result['environment'])}.\n"]
    titles = ["backbone", "batch", "default", "step", "step, float32", "step, MONAI's loop"]
    titles += ["step is faster", "forward is faster"]
    lines.append(row(titles))
    lines.append(row(["---", "---", "---", "---:", "---:", "---:", "---:", "---:"]))
    for name, one in sorted(result["backbones"].items()):
        batch = f"{one['batch']} × {' × '.join(map(str, one['shape']))}"
        seconds = [f"{one[c]['step_seconds']:.2f} s" for c in ("default", "fp32", "monai")]
        faster = [ratio(one["times_faster"][what]) for what in ("step", "forward")]
        who = f"`{name}`" + ("" if one["monai_has_it"] else " ¹")
        lines.append(row([who, batch, one["default"]["precision"], *seconds, *faster]))
    lines.append(
        "\n¹ MONAI does not have it for one value a scan; the same network runs in its loop.\n"
    )
    return "\n".join(lines)


def _augmentation(result: dict[str, Any]) -> str:
    environment = result["environment"]
    threads = counted(environment["threads"], "thread")
    how = f"{threads}, the step in {result['precision']}"
    lines = [
        f"\nHardware: {hardware(environment)}; {how}.\n",
        row(["", "seconds", "share of a step"]),
        row(["---", "---:", "---:"]),
    ]
    for name, one in result["augmentation"].items():
        low, high = (f"{100 * share:.1f}" for share in one["share_of_step_range"])
        share = f"{100 * one['share_of_step']:.1f} % ({low} to {high})" if name != "step" else ""
        label = "ResNet-18 training step" if name == "step" else name.replace("_", " ")
        lines.append(row([label, f"{one['seconds']:.3f}", share]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
