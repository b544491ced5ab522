"""The section of `docs/results.md` on raw heads."""

from typing import Any

from markdown_tables import hardware, row

_HEAD = """
## Raw heads

Twelve heads of IXI as published (2 mm, with skull) go through the whole pipeline of
`prepare: {heads: …}`; the brain mask is compared with the mask of the same subjects' published,
skull-stripped copies. Seconds are those of one core. Similarity is the correlation with MNI152
within its brain. Simulated heads are made from label maps, whose brain, with fluid, is known; every
second one is also moved by up to 25° about each axis, 12 mm and 10 % in size, and the moves that
the maps to the template tell are compared with the planted ones.
"""


def raw_heads(result: dict[str, Any]) -> str:
    """The section, with the parts that were measured."""
    lines = [_HEAD, f"Hardware: {hardware(result['environment'])}.\n"]
    lines += [row(["", "measured"]), row(["---", "---:"])]
    if "heads" in result:
        heads = result["heads"]
        lines.append(row(["real heads, mean Dice of the mask", f"{heads['dice_mean']:.3f}"]))
        lines.append(row(["real heads, worst Dice", f"{heads['dice_worst']:.3f}"]))
        lines.append(row(["real heads, most seconds", f"{heads['seconds_most']:g}"]))
        similarity = f"{heads['similarity_median']:.3f}"
        lines.append(row(["real heads, median similarity (9 parameters)", similarity]))
    if "maps" in result:
        maps = result["maps"]
        count = len(maps["scans"])
        lines.append(row([f"{count} simulated heads, mean Dice", f"{maps['dice_mean']:.3f}"]))
        lines.append(row(["simulated heads, worst Dice", f"{maps['dice_worst']:.3f}"]))
        lines.append(row(["planted moves, largest error", f"{maps['millimetres_most']:g} mm"]))
        lines.append(row(["planted moves, largest angle", f"{maps['degrees_most']:g}°"]))
    if "ants" in result:
        ants = result["ants"]
        count = len(ants["scans"])
        label = f"affine of braintune on {count} of the brains, median similarity"
        lines.append(row([label, f"{ants['braintune_median']:.3f}"]))
        lines.append(row(["affine of ANTs, the same", f"{ants['ants_median']:.3f}"]))
        lines.append(
            row(["registration, median seconds", f"{ants['braintune_seconds_median']:.1f}"])
        )
        lines.append(row(["ANTs, the same", f"{ants['ants_seconds_median']:.1f}"]))
    text = "\n".join(lines) + "\n"
    return text + (_robust(result["robust"]) if "robust" in result else "")


def _robust(cases: dict[str, Any]) -> str:
    lines = ["\nOne of the heads, made difficult:\n", row(["", "Dice", "what is said"])]
    lines.append(row(["---", "---:", "---"]))
    for case, one in cases.items():
        said = "; ".join(one.get("flags", [])) or one.get("refused", "")
        lines.append(row([case, f"{one['dice']:.3f}" if "dice" in one else "refused", said]))
    return "\n".join(lines) + "\n"
