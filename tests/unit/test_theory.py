"""The two-layer networks of surgical fine-tuning's theory."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from surefoot import theory, theory_figure
from surefoot.theory import ARMS, SHIFTS, Network, Setting, compare, curvature, draw, make_problem, mean_square, tune

SEEDS = (0, 1, 2)
SMALL = Setting(inputs=4, hidden=4, examples=(3, 40), seeds=SEEDS, steps=1000, validation=200, test=400)
# Squares of rounding errors are about 1e-32.
ZERO = 1e-24
INPUT_CHANGES = ("rotated_input", "scaled_input", "flipped_block")


def problem(shift: str) -> theory.Problem:
    """The small problem of a shift."""
    return make_problem(shift, SEEDS, SMALL.inputs, SMALL.hidden)


def chosen(frame: pd.DataFrame, column: str = "test_loss") -> pd.DataFrame:
    """Losses at the chosen rate: a row per seed, a column per (arm, examples)."""
    return frame[frame["chosen"]].pivot(index="seed", columns=["arm", "examples"], values=column)


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_source_model_has_no_source_loss(shift: str) -> None:
    given = problem(shift)._replace(change=torch.eye(SMALL.inputs, dtype=theory.DTYPE), factor=1.0)
    assert (mean_square(given.source, draw(given, 50, "source")) < ZERO).all()


@pytest.mark.parametrize("shift", SHIFTS)
def test_every_shift_costs_the_start_something(shift: str) -> None:
    given = problem(shift)
    assert (mean_square(given.start, draw(given, 50, "test")) > 1e-3).all()


@pytest.mark.parametrize("shift", INPUT_CHANGES)
def test_a_first_layer_undoes_an_input_change(shift: str) -> None:
    given = problem(shift)
    undone = given.start._replace(first=given.start.first @ torch.linalg.inv(given.change))
    assert (mean_square(undone, draw(given, 50, "test")) < ZERO).all()


@pytest.mark.parametrize("shift", INPUT_CHANGES)
def test_no_last_layer_undoes_an_input_change(shift: str) -> None:
    """The best last layer of all, by least squares on many examples, leaves a loss."""
    given = problem(shift)
    examples = draw(given, 500, "test")
    features = torch.relu(examples.x @ given.start.first.mT)
    best = torch.linalg.lstsq(features, examples.y.unsqueeze(-1)).solution.squeeze(-1)
    assert (mean_square(given.start._replace(last=best), examples) > 1e-3).all()


def test_a_last_layer_undoes_a_label_change() -> None:
    given = problem("label")
    undone = given.start._replace(last=given.factor * given.start.last)
    assert (mean_square(undone, draw(given, 50, "test")) < ZERO).all()


def test_a_first_layer_absorbs_positive_factors_of_the_last() -> None:
    """Why freezing the last layer takes away no function but those that need another sign."""
    given = problem("noise_first")
    factors = torch.rand(len(SEEDS), SMALL.hidden, generator=torch.Generator().manual_seed(0), dtype=theory.DTYPE) + 0.1
    moved = Network(given.start.first * factors.unsqueeze(-1), given.start.last / factors)
    x = draw(given, 50, "test").x
    assert torch.allclose(theory.predict(moved, x), theory.predict(given.start, x), atol=1e-12)


def test_noise_is_on_one_layer_only() -> None:
    for shift, noisy, clean in (("noise_first", "first", "last"), ("noise_last", "last", "first")):
        given = problem(shift)
        assert torch.equal(getattr(given.start, clean), getattr(given.source, clean))
        assert not torch.equal(getattr(given.start, noisy), getattr(given.source, noisy))


@pytest.mark.parametrize("arm", ARMS)
def test_a_layer_that_is_not_tuned_stays_bit_identical(arm: str) -> None:
    given = problem("rotated_input")
    before = Network(*(layer.clone() for layer in given.start))
    tuned = tune(given.start, draw(given, 8, "train"), ARMS[arm], (0.1, 1.0), 20)
    for layer in Network._fields:
        after = getattr(tuned, layer)
        assert after.shape == (2, *getattr(before, layer).shape)
        assert torch.equal(after, getattr(before, layer).expand_as(after)) == (layer not in ARMS[arm])
        assert torch.equal(getattr(given.start, layer), getattr(before, layer))


@pytest.mark.parametrize("arm", ["first", "last", "both"])
def test_steps_are_those_of_momentum_on_autograd_gradients(arm: str) -> None:
    given = problem("scaled_input")
    examples, rates, momentum = draw(given, 6, "train"), (0.05, 0.5), 0.8
    tuned, limits = tune(given.start, examples, ARMS[arm], rates, 7, momentum), curvature(given.start, examples.x)
    for r, rate in enumerate(rates):
        network = Network(*(layer.clone().requires_grad_() for layer in given.start))
        speeds = [torch.zeros_like(layer) for layer in network]
        for _ in range(7):
            gradients = torch.autograd.grad(mean_square(network, examples).sum(), network)
            with torch.no_grad():
                for name, layer, speed, gradient, limit in zip(
                    Network._fields, network, speeds, gradients, limits, strict=True
                ):
                    if name in ARMS[arm]:
                        layer += speed.mul_(momentum).sub_(rate / limit * gradient)
        for ours, theirs in zip(tuned, network, strict=True):
            assert torch.allclose(ours[r], theirs.detach(), rtol=1e-10, atol=1e-12)


def test_curvature_is_that_of_the_loss_in_each_layer() -> None:
    """At a network without loss the Hessian is 2/N J'J exactly."""
    given = problem("rotated_input")
    x = draw(given, 9, "train").x
    examples = theory.Examples(x, theory.predict(given.source, x))
    for name, limit in zip(Network._fields, curvature(given.source, x), strict=True):
        for s in range(len(SEEDS)):
            network, own = Network(*(layer[s] for layer in given.source)), theory.Examples(x[s], examples.y[s])

            def loss(layer, name=name, network=network, own=own):
                return mean_square(network._replace(**{name: layer}), own)

            layer = getattr(network, name)
            hessian = torch.autograd.functional.hessian(loss, layer).reshape(layer.numel(), layer.numel())
            assert torch.linalg.eigvalsh(hessian)[-1].item() == pytest.approx(limit[s].item(), rel=1e-9)


def test_what_is_not_shown_stays_known_if_only_the_first_layer_is_tuned() -> None:
    """Examples of the flipped block only: the other blocks keep their loss of zero, unless the last layer moves too."""
    given = problem("flipped_block")
    everything = draw(given, 200, "train")
    shown = (everything.x[..., :2] != 0).any(-1)
    count = int(shown.sum(-1).min())
    own = [torch.nonzero(row).flatten()[:count] for row in shown]
    examples = theory.Examples(*(torch.stack([t[s, i] for s, i in enumerate(own)]) for t in everything))
    others = theory.Examples(everything.x * ~shown.unsqueeze(-1), everything.y * ~shown)
    first, both = (tune(given.start, examples, ARMS[arm], (0.3,), 300) for arm in ("first", "both"))
    assert torch.equal(first.first[0, ..., 2:], given.start.first[..., 2:])
    assert (mean_square(first, others) < ZERO).all() and (mean_square(both, others) > 1e-6).all()


def test_examples_of_blocks_lie_in_one_block_each() -> None:
    x = draw(problem("flipped_block"), 100, "test").x
    used = (x.unflatten(-1, (-1, 2)) != 0).any(-1)
    assert (used.sum(-1) == 1).all() and used.any(1).all()


def test_divergence_is_an_infinite_loss_and_never_chosen() -> None:
    frame = compare("label", Setting(**{**vars(SMALL), "rates": (0.1, 1000.0), "steps": 2000, "examples": (3,)}))
    assert frame["test_loss"].isin([float("inf")]).any() and not frame["test_loss"].isna().any()
    assert frame.loc[frame["chosen"], "rate"].max() == 0.1


def test_the_frame_is_tidy_and_the_rate_is_chosen_on_validation() -> None:
    frame = compare("rotated_input", SMALL)
    keys = ["shift", "arm", "examples", "seed"]
    assert not frame.duplicated([*keys, "rate"]).any()
    assert len(frame) == len(SMALL.examples) * len(SEEDS) * (3 * len(SMALL.rates) + 1)
    groups = frame.groupby(keys)
    assert (groups["chosen"].sum() == 1).all()
    least = groups["validation_loss"].min()
    assert (frame[frame["chosen"]].set_index(keys)["validation_loss"].sort_index() == least).all()
    assert set(frame.loc[frame["arm"] == "none", "rate"]) == {0.0}


def test_the_same_seed_gives_the_same_frame_in_any_company() -> None:
    short = Setting(**{**vars(SMALL), "steps": 50})
    frame = compare("noise_first", short)
    pd.testing.assert_frame_equal(frame, compare("noise_first", short))
    other = compare("noise_first", Setting(**{**vars(short), "seeds": (5, 1), "examples": (40,)}))
    both = [t[(t["seed"] == 1) & (t["examples"] == 40)].reset_index(drop=True) for t in (frame, other)]
    pd.testing.assert_frame_equal(*both, rtol=1e-9)


@pytest.mark.parametrize("shift", INPUT_CHANGES)
def test_an_input_change_is_learnt_by_the_first_layer_and_not_by_the_last(shift: str) -> None:
    losses = chosen(compare(shift, SMALL))
    assert (losses["first", 40] < 0.2 * losses["last", 40]).all()
    assert losses["first", 40].median() < 1e-3 < 1e-2 < losses["last", 40].median()


def test_a_label_change_and_noise_in_the_last_layer_are_learnt_by_the_last_layer() -> None:
    for shift in ("label", "noise_last"):
        losses = chosen(compare(shift, SMALL))
        assert (losses["last", 40] < ZERO).all()
        assert (losses[["first", "both"]].xs(40, axis=1, level="examples") > 1e-9).all(axis=None)


def test_an_unknown_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="rotated_input"):
        make_problem("nonsense", SEEDS, 4, 4)


def test_table_and_figure_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    tiny = Setting(**{**vars(SMALL), "steps": 20})
    for k in range(2):
        theory.run_theory(tmp_path / f"{k}.csv", tiny)
        theory_figure.draw_theory(tmp_path / f"{k}.csv", tmp_path / str(k))
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()
    for form in ("csv", "png", "svg"):
        assert (tmp_path / f"0/theory.{form}").read_bytes() == (tmp_path / f"1/theory.{form}").read_bytes()
    points = pd.read_csv(tmp_path / "0/theory.csv")
    assert len(points) == len(SHIFTS) * len(ARMS) * len(tiny.examples)
    assert (points["low"] <= points["median"]).all() and (points["median"] <= points["high"]).all()


def test_every_shift_has_a_title_and_every_arm_a_label() -> None:
    assert tuple(theory_figure.TITLES) == SHIFTS and tuple(theory_figure.LABELS) == tuple(ARMS)
