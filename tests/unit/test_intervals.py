"""The paired bootstrap over clusters."""

import numpy as np
import pandas as pd
import pytest

from surefoot import metrics
from surefoot.intervals import Resampler, interval


def images(clusters_per_class: int = 30, classes: int = 4, copies: int = 3, seed: int = 0) -> pd.DataFrame:
    """Images of random clusters of 1 to `copies` images, with a chance of being right that the cluster shares."""
    rng, rows = np.random.default_rng(seed), []
    for label in range(classes):
        for k in range(clusters_per_class):
            chance = rng.uniform()
            rows += [(f"{label}-{k}", label, rng.uniform() < chance) for _ in range(rng.integers(1, copies + 1))]
    return pd.DataFrame(rows, columns=["cluster", "label", "right"])


def accuracy(resampler: Resampler, table: pd.DataFrame, metric: str = "mean_per_class") -> np.ndarray:
    """Draws of a table."""
    return resampler.accuracy(table["cluster"], table["label"].to_numpy(), table["right"].to_numpy(), metric)


@pytest.mark.parametrize("metric", ["top1", "mean_per_class"])
def test_the_plain_weighting_is_the_metric(metric: str) -> None:
    table = images()
    draws = accuracy(Resampler(table["cluster"], table["label"], 100, 0), table, metric)
    predicted = np.where(table["right"], table["label"], -1)
    assert draws.shape == (101,)
    assert draws[0] == pytest.approx(getattr(metrics, metric)(predicted, table["label"].to_numpy()), rel=1e-6)


def test_the_plain_value_holds_for_a_subset_of_the_clusters() -> None:
    """Under folds a seed sees only some of the clusters, and maybe not every class."""
    table = images()
    resampler = Resampler(table["cluster"], table["label"], 100, 0)
    some = table[table["label"] != 2].iloc[::2]
    predicted = np.where(some["right"], some["label"], -1)
    expected = metrics.mean_per_class(predicted, some["label"].to_numpy())
    assert accuracy(resampler, some)[0] == pytest.approx(expected, rel=1e-6)


def test_clusters_are_drawn_whole_and_within_their_class() -> None:
    table = images(clusters_per_class=5)
    resampler = Resampler(table["cluster"], table["label"], 200, 0)
    weights = pd.DataFrame(resampler.weights[1:].T, index=list(resampler.index))
    per_class = weights.groupby(lambda name: name[0]).sum()
    assert (per_class == 5).all(axis=None)
    assert weights.nunique(axis=1).min() > 1 and (weights == weights.round()).all(axis=None)


def test_images_of_a_cluster_rise_and_fall_together() -> None:
    """One class, two clusters: a draw can only take one cluster twice, or both, whatever the number of images."""
    table = pd.DataFrame({"cluster": ["a"] * 9 + ["b"], "label": 0, "right": [True] * 9 + [False]})
    draws = accuracy(Resampler(table["cluster"], table["label"], 1000, 0), table)[1:]
    assert set(np.round(draws, 3)) == {0.0, 90.0, 100.0}
    assert np.mean(draws == 0) == pytest.approx(0.25, abs=0.05)
    assert np.mean(draws == 100) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("metric", ["top1", "mean_per_class"])
def test_agrees_with_a_plain_loop_over_resampled_tables(metric: str) -> None:
    table = images(clusters_per_class=8, classes=3)
    own = accuracy(Resampler(table["cluster"], table["label"], 2000, 0), table, metric)[1:]
    rng, parts, loop = np.random.default_rng(1), dict(list(table.groupby("cluster"))), []
    for _ in range(600):
        names = [f"{label}-{k}" for label in range(3) for k in rng.integers(0, 8, 8)]
        drawn = pd.concat([parts[name] for name in names])
        predicted = np.where(drawn["right"], drawn["label"], -1)
        loop.append(getattr(metrics, metric)(predicted, drawn["label"].to_numpy()))
    assert own.mean() == pytest.approx(np.mean(loop), abs=1.2)
    assert own.std() == pytest.approx(np.std(loop), rel=0.12)
    for q in (0.05, 0.95):
        assert np.quantile(own, q) == pytest.approx(np.quantile(loop, q), abs=3)


def test_ignoring_clusters_would_give_another_interval() -> None:
    """Ten copies of each image carry no information: the interval must stay that of single images."""
    single = images(clusters_per_class=25, classes=2, copies=1)
    copied = pd.concat([single] * 10)
    ends = []
    for table in (single, copied):
        ends.append(interval(accuracy(Resampler(table["cluster"], table["label"], 500, 0), table), 0.95))
    assert ends[0] == pytest.approx(ends[1])


def test_difference_of_a_system_with_itself_is_exactly_zero() -> None:
    table = images()
    resampler = Resampler(table["cluster"], table["label"], 500, 0)
    assert interval(accuracy(resampler, table) - accuracy(resampler, table), 0.95) == (0, 0, 0)


def test_pairing_makes_the_interval_of_a_small_difference_narrow() -> None:
    table = images(clusters_per_class=100)
    better = table.copy()
    better.loc[better.index[better["right"]][:6], "right"] = False
    resampler = Resampler(table["cluster"], table["label"], 500, 0)
    value, low, high = interval(accuracy(resampler, table) - accuracy(resampler, better), 0.95)
    _, alone_low, alone_high = interval(accuracy(resampler, table), 0.95)
    assert value > 0 and high - low < 0.35 * (alone_high - alone_low)


def test_independent_images_give_the_binomial_interval() -> None:
    right = np.random.default_rng(0).uniform(size=1000) < 0.7
    table = pd.DataFrame({"cluster": [str(i) for i in range(1000)], "label": 0, "right": right})
    value, low, high = interval(accuracy(Resampler(table["cluster"], table["label"], 2000, 0), table, "top1"), 0.95)
    half = 196 * np.sqrt(right.mean() * (1 - right.mean()) / 1000)
    assert value == pytest.approx(100 * right.mean(), rel=1e-6)
    assert value - low == pytest.approx(half, rel=0.1) and high - value == pytest.approx(half, rel=0.1)


def test_the_same_seed_gives_the_same_draws_in_any_order_of_the_rows() -> None:
    table = images()
    shuffled = table.sample(frac=1, random_state=0)
    one, other = (Resampler(t["cluster"], t["label"], 100, 0) for t in (table, shuffled))
    assert np.array_equal(accuracy(one, table), accuracy(other, table))
    assert not np.array_equal(
        accuracy(one, table), accuracy(Resampler(table["cluster"], table["label"], 100, 1), table)
    )


def test_interval_by_hand() -> None:
    assert interval(np.array([42.0, *range(101)]), 0.9) == pytest.approx((42, 5, 95))


def test_a_metric_without_interval_is_refused() -> None:
    table = images()
    with pytest.raises(ValueError, match="nll"):
        accuracy(Resampler(table["cluster"], table["label"], 10, 0), table, "nll")


@pytest.mark.parametrize("metric", ["top1", "mean_per_class", "macro_f1", "worst_group", "all_frames"])
def test_every_weighting_is_the_metric_of_the_images_it_repeats(metric: str) -> None:
    from surefoot import metrics

    rng = np.random.default_rng(3)
    clusters = np.array([f"c{k}" for k in rng.integers(0, 14, 90)])
    of = {name: int(rng.integers(0, 4)) for name in sorted(set(clusters))}
    labels = np.array([of[name] for name in clusters])
    predicted = np.where(rng.random(90) < 0.6, labels, rng.integers(0, 5, 90))
    groups = rng.choice(["", "north", "south"], 90)
    resampler = Resampler(pd.Series(clusters), pd.Series(labels), 60, 0)
    found = resampler.values(metric, pd.Series(clusters), labels, predicted, groups)
    for weights, value in zip(resampler.weights, found, strict=True):
        # A cluster drawn twice is two clusters of the same images.
        copies = [(k, copy) for k, w in enumerate(weights) for copy in range(w)]
        names = list(resampler.index)
        rows = [np.flatnonzero(clusters == names[k]) for k, _ in copies]
        index = np.concatenate(rows)
        own = np.concatenate([[f"{names[k]} {copy}"] * len(r) for (k, copy), r in zip(copies, rows, strict=True)])
        expected = metrics.accuracy(metric, predicted[index], labels[index], groups[index], own)
        assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", sorted(metrics.ACCURACY))
def test_resamples_without_an_image_of_a_small_set_do_not_count(metric: str) -> None:
    table = pd.DataFrame({"cluster": [f"c{i}" for i in range(40)], "label": 0})
    small = table[:2]
    groups, predicted = np.array(["a", "a"]), np.array([0, 1])
    draws = Resampler(table["cluster"], table["label"], 500, 0).values(
        metric, small["cluster"], small["label"].to_numpy(), predicted, groups
    )
    assert np.isnan(draws).any() and not np.isnan(draws[0])
    value, low, high = interval(draws, 0.95)
    assert low == 0 and high == 100 and low < value < high
