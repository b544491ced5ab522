"""Figures of predicted classes, of a network or of a model on a table."""

import numpy as np
import pandas as pd

from braintune.reporting import figures


def class_figures(
    predictions: pd.DataFrame, target: str, names: list[str], predictor: str
) -> list[dict[str, str]]:
    """ROC and calibration where there are two classes, and the confusion matrix.

    Args:
        predictions: The truth in a column of the target's name, the class decided on in
            ``predicted``, each class's probability in ``p_`` and its name, and ``fold``.
        target: The column of the truth.
        names: Classes in order; the second one is the positive one.
        predictor: What the captions call what predicted.

    Returns:
        Figures as SVG, each with the caption that says what a failure looks like.
    """
    code = {name: number for number, name in enumerate(names)}
    truth = predictions[target].map(code).to_numpy(dtype=np.int64)
    decided = predictions["predicted"].map(code).to_numpy(dtype=np.int64)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (truth, decided), 1)
    matrix = {
        "svg": figures.confusion(names, counts),
        "caption": "Decisions at the operating point. A full column is a"
        f" {predictor} that always answers the same.",
    }
    if len(names) > 2:
        return [matrix]
    score = predictions[f"p_{names[1]}"].astype("float64").to_numpy()
    positive = (truth == 1).astype("float64")
    fold = pd.factorize(predictions["fold"])[0].astype("float64")
    return [
        {
            "svg": figures.roc(positive, score, fold),
            "caption": f"ROC curves for {names[1]}. Thin: single folds, whose spread shows how"
            " little one split tells. On the dotted line nothing was learnt.",
        },
        {
            "svg": figures.calibration(positive, score),
            "caption": "Observed share against predicted probability. Points below the dotted"
            " line on the right are overconfident.",
        },
        matrix,
    ]
