"""Does a model know when it is right? Figures of its confidence in its own answers."""

import numpy as np
from jaxtyping import Float

from autoprune_lab.statistics.records import Records

BINS = 15

Values = Float[np.ndarray, "samples"]


def reliability(records: Records) -> dict[str, float]:
    """`ece`, `brier` and `aurc` of an evaluation, all in [0, 1] and better when lower; NaN without confidences.

    Every sample counts alike, whatever its kind; a score between 0 and 1 is that much right.

    Source: arXiv 2604.12035, which sets pruned models against unpruned ones by these three.
    Differs: confidence is the probability of the whole generated answer, not one softmax over a question's options, so
    that free answers have one too.
    """
    known = [(row.confidence, row.score) for row in records.rows if row.confidence is not None]
    if len(known) < len(records.rows):
        return dict.fromkeys(("ece", "brier", "aurc"), float("nan"))
    confidence, scores = np.array(known, dtype=float).T
    return {"ece": ece(confidence, scores), "brier": brier(confidence, scores), "aurc": aurc(confidence, scores)}


def ece(confidence: Values, scores: Values, bins: int = BINS) -> float:
    """Expected calibration error: |mean confidence - mean score| in bins of equal width, weighed by their samples.

    Source: C. Guo et al., On Calibration of Modern Neural Networks (2017), equation 3.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, confidence - scores, minlength=bins)
    return float(np.abs(gaps).sum() / len(scores))


def brier(confidence: Values, scores: Values) -> float:
    """Mean squared difference of confidence and score."""
    return float(np.square(confidence - scores).mean())


def aurc(confidence: Values, scores: Values) -> float:
    """Area under the risk-coverage curve: the mean, over n, of what the n most confident answers lack of score 1.

    Source: Y. Geifman et al., Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers (2019).
    Differs: equally confident answers share their mean risk, so that no order among them counts.
    """
    _, group = np.unique(-confidence, return_inverse=True)
    shared = (np.bincount(group, 1 - scores) / np.bincount(group))[np.sort(group)]
    return float((shared.cumsum() / np.arange(1, len(scores) + 1)).mean())
