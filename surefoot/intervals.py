"""Intervals: a paired bootstrap over clusters (near-duplicate images, here concepts) within classes, over all seeds.

R resamples, K clusters, S strata, N images.
"""

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix

BLOCK = 256


class Resampler:
    """R random weightings of K clusters, drawn once, so that every model and seed is judged on the same resamples.

    Clusters are drawn with replacement within their class. Weighting 0 is the plain one (every cluster once).
    """

    def __init__(self, clusters: pd.Series, strata: pd.Series, draws: int, seed: int) -> None:
        """Args: clusters, strata: of any images [N]; a cluster belongs to the stratum of its first image."""
        first = pd.DataFrame({"cluster": clusters, "stratum": strata}).drop_duplicates("cluster").sort_values("cluster")
        self.index = {cluster: k for k, cluster in enumerate(first["cluster"])}
        rng = np.random.default_rng(seed)
        self.weights = np.ones((draws + 1, len(first)), np.uint8)
        for _, members in first.reset_index(drop=True).groupby("stratum"):
            size = len(members)
            drawn = rng.multinomial(size, np.full(size, 1 / size), size=draws)
            self.weights[1:, members.index] = np.minimum(drawn, np.iinfo(np.uint8).max)

    def _sums(self, clusters: pd.Series, strata: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
        """Sums of each of the values [N] per stratum under every weighting: [R + 1, S] for the strata 0..S-1."""
        k = clusters.map(self.index).to_numpy()
        seen, place = np.unique(k, return_inverse=True)
        shape = (len(seen), int(strata.max()) + 1)
        tables = [coo_matrix((v.astype(np.float64), (place, strata)), shape).tocsr() for v in values]
        # Block by block, so that the weights of many clusters are never held as floats at once.
        found = [np.empty((len(self.weights), shape[1])) for _ in values]
        for start in range(0, len(self.weights), BLOCK):
            rows = slice(start, start + BLOCK)
            weights = self.weights[rows][:, seen].astype(np.float64)
            for sums, table in zip(found, tables, strict=True):
                sums[rows] = (table.T @ weights.T).T
        return found

    def values(
        self, metric: str, clusters: pd.Series, labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray
    ) -> np.ndarray:
        """A metric of `surefoot.metrics.ACCURACY` in percent under every weighting [R + 1]; all others [N].

        A group or class that a weighting leaves empty does not count under it. Raises ValueError for another metric.
        """
        right = predicted == labels
        if metric in ("top1", "mean_per_class"):
            return self.accuracy(clusters, labels, right, metric)
        if metric == "macro_f1":
            classes = np.unique(labels)
            known = np.isin(predicted, classes)
            hits, actual = self._sums(clusters, labels, right, np.ones(len(labels)))
            guessed = (
                self._sums(clusters[known], predicted[known], np.ones(known.sum()))[0] if known.any() else 0 * hits
            )
            guessed = np.pad(guessed, ((0, 0), (0, hits.shape[1] - guessed.shape[1])))
            f1 = np.divide(2 * hits, actual + guessed, out=np.full_like(hits, np.nan), where=actual > 0)
            return 100 * _mean(f1)
        if metric == "worst_group":
            named = groups != "" if (groups != "").any() else np.ones(len(groups), bool)
            _, stratum = np.unique(groups[named], return_inverse=True)
            hits, counts = self._sums(clusters[named], stratum, right[named], np.ones(named.sum()))
            shares = np.divide(hits, counts, out=np.full_like(hits, np.inf), where=counts > 0).min(axis=1)
            return 100 * np.where(np.isinf(shares), np.nan, shares)
        if metric == "all_frames":
            whole = pd.DataFrame({"cluster": clusters.to_numpy(), "right": right}).groupby("cluster")["right"].all()
            names = whole.index.to_series()
            hits, counts = self._sums(names, np.zeros(len(names), int), whole.to_numpy(), np.ones(len(names)))
            return 100 * _mean(np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts > 0))
        raise ValueError(f"no interval for metric {metric}")

    def judged(self, metric: str, rows: pd.DataFrame, predicted: str) -> np.ndarray:
        """`values` of the column `predicted` of rows with columns cluster and label, and group for the worst one."""
        groups = rows["group"].to_numpy(str) if metric == "worst_group" else np.full(len(rows), "")
        return self.values(metric, rows["cluster"], rows["label"].to_numpy(), rows[predicted].to_numpy(), groups)

    def accuracy(self, clusters: pd.Series, labels: np.ndarray, right: np.ndarray, metric: str) -> np.ndarray:
        """Accuracy in percent under every weighting [R + 1].

        `right` [N] says whether an image was classified rightly; metric is 'top1' or 'mean_per_class' (over the classes
        that a weighting leaves present). Raises ValueError for another metric.
        """
        if metric not in ("top1", "mean_per_class"):
            raise ValueError(f"no interval for metric {metric}")
        strata = labels if metric == "mean_per_class" else np.zeros_like(labels)
        right_sum, present = self._sums(clusters, strata, right, np.ones(len(right)))
        seen = np.unique(strata)
        right_sum, present = right_sum[:, seen], present[:, seen]
        share = np.divide(right_sum, present, out=np.full_like(present, np.nan), where=present > 0)
        return 100 * _mean(share)


def _mean(table: np.ndarray) -> np.ndarray:
    """Mean over columns of what is not NaN [R + 1]; NaN where nothing is."""
    known = ~np.isnan(table)
    sums, counts = np.where(known, table, 0).sum(1), known.sum(1)
    return np.divide(sums, counts, out=np.full(len(table), np.nan), where=counts > 0)


def interval(draws: np.ndarray, level: float) -> tuple[float, float, float]:
    """Value, lower and upper end of the percentile interval, from a plain value followed by R resamples.

    A resample that draws no cluster of a small set has no value (NaN) and does not count.
    """
    low, high = np.nanquantile(draws[1:], [(1 - level) / 2, (1 + level) / 2])
    return float(draws[0]), float(low), float(high)
