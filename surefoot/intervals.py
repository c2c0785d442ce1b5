"""Intervals: a paired bootstrap over clusters (near-duplicate images, here concepts) within classes, over all seeds.

R resamples, K clusters, S strata, N images.
"""

import numpy as np
import pandas as pd


class Resampler:
    """R random weightings of K clusters, drawn once, so that every model and seed is judged on the same resamples.

    Clusters are drawn with replacement within their class. Weighting 0 is the plain one (every cluster once).
    """

    def __init__(self, clusters: pd.Series, strata: pd.Series, draws: int, seed: int) -> None:
        """Args: clusters, strata: of any images [N]; a cluster belongs to the stratum of its first image."""
        first = pd.DataFrame({"cluster": clusters, "stratum": strata}).drop_duplicates("cluster").sort_values("cluster")
        self.index = {cluster: k for k, cluster in enumerate(first["cluster"])}
        rng = np.random.default_rng(seed)
        self.weights = np.ones((draws + 1, len(first)), np.float32)
        for _, members in first.reset_index(drop=True).groupby("stratum"):
            size = len(members)
            self.weights[1:, members.index] = rng.multinomial(size, np.full(size, 1 / size), size=draws)

    def accuracy(self, clusters: pd.Series, labels: np.ndarray, right: np.ndarray, metric: str) -> np.ndarray:
        """Accuracy in percent under every weighting [R + 1].

        `right` [N] says whether an image was classified rightly; metric is 'top1' or 'mean_per_class' (over the classes
        that a weighting leaves present). Raises ValueError for another metric.
        """
        if metric not in ("top1", "mean_per_class"):
            raise ValueError(f"no interval for metric {metric}")
        strata = labels if metric == "mean_per_class" else np.zeros_like(labels)
        k = clusters.map(self.index).to_numpy()
        shape = (len(self.index), strata.max() + 1)
        hits, counts = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        np.add.at(hits, (k, strata), right)
        np.add.at(counts, (k, strata), 1)
        seen = counts.sum(0) > 0
        # Sums of small whole numbers are exact in float32; the means are not, so they are taken in float64.
        present, right_sum = (np.asarray(self.weights @ table[:, seen], np.float64) for table in (counts, hits))
        share = np.divide(right_sum, present, out=np.full_like(present, np.nan), where=present > 0)
        return 100 * np.nanmean(share, axis=1)


def interval(draws: np.ndarray, level: float) -> tuple[float, float, float]:
    """Value, lower and upper end of the percentile interval, from a plain value followed by R resamples."""
    low, high = np.quantile(draws[1:], [(1 - level) / 2, (1 + level) / 2])
    return float(draws[0]), float(low), float(high)
