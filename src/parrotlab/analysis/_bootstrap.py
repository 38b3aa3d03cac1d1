"""The bootstrap over seeds."""

from __future__ import annotations

import math

import numpy as np

CONFIDENCE = 0.95
SAMPLES = 2000


def resampled_means(scores_S: np.ndarray, generator: np.random.Generator, samples: int = SAMPLES) -> np.ndarray:
    """[samples] means of the scores of S seeds, drawn with replacement; one seed shows no spread.

    Deviations are widened by √(S / (S - 1)): as drawn, the means of S values spread too little by that factor
    (Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans).
    """
    seeds = len(scores_S)
    means = scores_S[generator.integers(seeds, size=(samples, seeds))].mean(axis=1)
    return scores_S.mean() + math.sqrt(seeds / max(1, seeds - 1)) * (means - scores_S.mean())


def interval(lowest: np.ndarray, highest: np.ndarray) -> tuple[float, float]:
    """The percentile interval of samples known to lie between ``lowest`` and ``highest``, which may be infinite."""
    tail = 50 * (1 - CONFIDENCE)
    low = np.percentile(lowest, tail, method="inverted_cdf")  # this method returns samples: no infinity minus infinity
    return float(low), float(np.percentile(highest, 100 - tail, method="inverted_cdf"))
