"""How the learning rate is spread: rules by hand on given gradients, and what they do to a run."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import method_entries
from surefoot.clip import Classifier
from surefoot.files import UserError
from surefoot.layers import layers, parts
from surefoot.method_entries import Recipe, Training
from surefoot.rates import Factors, Rates
from surefoot.train import fit
from surefoot.weights import Weights
from tests.tiny import Bench, clone, same_bytes

Gradients = dict[str, torch.Tensor]
# 24 images, so that an epoch is one full batch.
WHOLE = Recipe(learning_rate=1e-3, weight_decay=0, batch_size=100, epochs=3, warmup=0)


def tensors(**values: list) -> dict[str, torch.nn.Parameter]:
    """Trained tensors; `__` stands for a dot."""
    return {name.replace("__", "."): torch.nn.Parameter(torch.tensor(value)) for name, value in values.items()}


def given_gradients(*batches: Gradients, per_image: bool = False) -> Callable[[bool], Iterator[Gradients]]:
    """A probe that knows its answer; it checks what it is asked for."""

    def found(asked: bool) -> Iterator[Gradients]:
        assert asked is per_image
        yield from batches

    return found


def no_probe(per_image: bool) -> Iterator[Gradients]:
    """A probe that must not be asked."""
    raise AssertionError("gradients were asked for")


def factors(
    rates: object,
    trained: dict,
    ask: Callable,
    epoch: int = 0,
    epochs: int = 10,
    every: list[str] | None = None,
    **options: float,
) -> Factors:
    """The factors of an epoch."""
    training = Training(train=["image"], rates=rates, options=method_entries.Options(**options))
    return Rates(training, trained, epochs, "methods.mine", every).at(epoch, ask)


def batches(trained: dict, seeds: list[int]) -> list[Gradients]:
    """Random gradients."""
    streams = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [{n: torch.randn(t.shape, generator=s) for n, t in trained.items()} for s in streams]


def test_one_rate_for_all() -> None:
    trained = tensors(image__a=[0.0], head__weight=[1.0])
    assert factors("one", trained, no_probe) == {"image.a": 1.0, "head.weight": 1.0}


def test_every_registered_name_gives_a_factor_for_every_tensor_and_others_none(classifier: Classifier) -> None:
    trained = dict(classifier.named_parameters())
    for name in method_entries.RATES_NAMES:
        ask = given_gradients(*batches(trained, [0, 1]), per_image=name == "snr")
        found = factors(name, trained, ask)
        assert found.keys() == trained.keys() and all(0 <= factor <= 1 for factor in found.values()), name
    training = Training.model_construct(rates="nonsense", options=method_entries.Options())
    with pytest.raises(KeyError, match="nonsense"):
        Rates(training, trained, 1, "x").at(0, no_probe)


# Relative gradient norm


def test_rgn_by_hand() -> None:
    """Norms 5, 2, 1 of the weights; the mean of the ratios, not the ratio of the mean gradient."""
    trained = tensors(image__a=[3.0, 4.0], image__b=[0.0, -2.0], head__weight=[1.0])
    first = {"image.a": torch.tensor([5.0, 0.0]), "image.b": torch.tensor([1.0, 0.0]), "head.weight": torch.zeros(1)}
    second = {
        "image.a": torch.tensor([-5.0, 0.0]),
        "image.b": torch.tensor([0.0, 0.0]),
        "head.weight": torch.tensor([-3.0]),
    }
    found = factors("rgn", trained, given_gradients(first, second))
    means = {"image.a": (1 + 1) / 2, "image.b": (0.5 + 0) / 2, "head.weight": (0 + 3) / 2}
    assert found == {name: pytest.approx(mean / 1.5) for name, mean in means.items()}
    assert max(found.values()) == 1


def test_rgn_of_layers_takes_the_tensors_of_a_layer_together() -> None:
    """sqrt(sum |g|^2) / sqrt(sum |theta|^2) per layer; what is in no layer keeps the whole rate."""
    trained = tensors(
        image__conv1__weight=[3.0],
        image__class_embedding=[4.0],
        image__transformer__resblocks__0__ln_1__weight=[1.0],
        image__transformer__resblocks__0__ln_1__bias=[0.0],
        head__weight=[2.0],
        logit_scale=[1.0],
    )
    gradients = {name: torch.tensor([g]) for name, g in zip(trained, (6.0, 8.0, 3.0, 4.0, 1.0, 1000.0), strict=True)}
    found = factors("rgn-group", trained, given_gradients(gradients))
    ratios = {"embedding": 10 / 5, "block-0": 5 / 1, "head": 1 / 2}
    expected = {name: ratios[layer] / 5 for layer, names in layers(trained).items() for name in names}
    assert found == {n: pytest.approx(factor) for n, factor in {**expected, "logit_scale": 1.0}.items()}


@pytest.mark.parametrize("how", ["rgn", "rgn-group"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), factor=st.floats(1e-4, 1e4))
def test_rgn_forgets_the_scale_of_the_loss_and_its_largest_is_one(how: str, seed: int, factor: float) -> None:
    trained = tensors(image__conv1__weight=[[1.0, -2.0]], image__layer1__a=[3.0], image__layer2__a=[0.1], head__b=[7.0])
    small = batches(trained, [seed, seed + 1, seed + 2])
    large = [{name: factor * g for name, g in gradients.items()} for gradients in small]
    found = factors(how, trained, given_gradients(*small))
    assert max(found.values()) == 1 and min(found.values()) > 0, "no minimum is subtracted"
    assert factors(how, trained, given_gradients(*large)) == {n: pytest.approx(f, rel=1e-4) for n, f in found.items()}


def test_rgn_of_a_tensor_of_zeros_is_refused_with_its_name() -> None:
    trained = tensors(image__a=[1.0], head__bias=[0.0, 0.0])
    with pytest.raises(UserError, match=r"methods\.mine\.rates: .* head\.bias is not defined"):
        factors("rgn", trained, given_gradients(*batches(trained, [0])))


def test_rgn_of_layers_bears_a_tensor_of_zeros_but_not_a_layer_of_zeros() -> None:
    trained = tensors(image__conv1__weight=[1.0], head__weight=[1.0], head__bias=[0.0])
    assert factors("rgn-group", trained, given_gradients(*batches(trained, [0])))["head.bias"] > 0
    trained = tensors(image__conv1__weight=[1.0], head__weight=[0.0], head__bias=[0.0])
    with pytest.raises(UserError, match="of head is not defined"):
        factors("rgn-group", trained, given_gradients(*batches(trained, [0])))


def test_released_rgn_freezes_what_is_named_bn_and_compares_the_rest() -> None:
    """The largest ratio is a norm's, which released leaves out; its name filter misses norms of shortcuts."""
    trained = tensors(image__conv1=[1.0], image__bn1__bias=[1.0], image__downsample__1__weight=[1.0])
    gradients = {name: torch.tensor([size]) for name, size in zip(trained, (2.0, 8.0, 1.0), strict=True)}
    assert list(factors("rgn", trained, given_gradients(gradients)).values()) == [0.25, 1.0, 0.125]
    found = factors("rgn-released", trained, given_gradients(gradients))
    assert found == {"image.conv1": 1.0, "image.bn1.bias": 0.0, "image.downsample.1.weight": 0.5}
    with pytest.raises(UserError, match=r"methods\.mine\.rates: rgn-released freezes all of train"):
        factors("rgn-released", {"image.bn1.bias": trained["image.bn1.bias"]}, given_gradients(gradients))


@pytest.mark.parametrize("how", ["rgn", "rgn-group"])
def test_without_any_gradient_every_tensor_keeps_the_whole_rate(how: str) -> None:
    trained = tensors(image__conv1__weight=[1.0], head__weight=[1.0])
    zero = {name: torch.zeros(1) for name in trained}
    assert set(factors(how, trained, given_gradients(zero, zero)).values()) == {1.0}


# no layer is trained, so there is no largest ratio: ValueError of max().
def test_rgn_of_layers_without_layers_is_one_rate_or_refused() -> None:
    trained = tensors(text__clip__ln_final__weight=[1.0], logit_scale=[1.0])
    try:
        assert set(factors("rgn-group", trained, given_gradients(*batches(trained, [0]))).values()) == {1.0}
    except UserError as error:
        assert "methods.mine.rates" in str(error)


# Signal to noise


def test_snr_by_hand() -> None:
    """Per tensor |mean g|^2 / sum of the variance over images: 4/1, 1/4, 100/(16 + 9)."""
    trained = tensors(image__a=[9.0], image__b=[9.0], head__weight=[9.0, 9.0])
    images = [
        {"image.a": torch.tensor([1.0]), "image.b": torch.tensor([3.0]), "head.weight": torch.tensor([10.0, 3.0])},
        {"image.a": torch.tensor([3.0]), "image.b": torch.tensor([-1.0]), "head.weight": torch.tensor([2.0, -3.0])},
    ]
    expected = {"image.a": 4 / 1, "image.b": 1 / 4, "head.weight": 36 / (16 + 9)}
    found = factors("snr", trained, given_gradients(*images, per_image=True), snr_threshold=0)
    assert found == {name: pytest.approx(ratio / 4, rel=1e-5) for name, ratio in expected.items()}


@pytest.mark.parametrize(
    ("threshold", "frozen"), [(0.05, set()), (0.2, {"image.b"}), (0.5, {"image.b", "head.weight"})]
)
def test_snr_below_the_threshold_is_frozen(threshold: float, frozen: set[str]) -> None:
    trained = tensors(image__a=[9.0], image__b=[9.0], head__weight=[9.0, 9.0])
    images = [
        {"image.a": torch.tensor([1.0]), "image.b": torch.tensor([3.0]), "head.weight": torch.tensor([10.0, 3.0])},
        {"image.a": torch.tensor([3.0]), "image.b": torch.tensor([-1.0]), "head.weight": torch.tensor([2.0, -3.0])},
    ]
    found = factors("snr", trained, given_gradients(*images, per_image=True), snr_threshold=threshold)
    assert {name for name, factor in found.items() if factor == 0} == frozen and found["image.a"] == 1


def test_snr_tells_pure_signal_from_noise() -> None:
    trained = tensors(image__signal=[1.0] * 50, image__noise=[1.0] * 50)
    stream = torch.Generator().manual_seed(0)
    constant = torch.randn(50, generator=stream)
    images = [
        {
            "image.signal": constant + 0.01 * torch.randn(50, generator=stream),
            "image.noise": torch.randn(50, generator=stream),
        }
        for _ in range(40)
    ]
    assert factors("snr", trained, given_gradients(*images, per_image=True)) == {
        "image.signal": 1.0,
        "image.noise": 0.0,
    }


def test_snr_without_any_noise_is_the_whole_rate() -> None:
    trained = tensors(image__a=[1.0, 1.0], image__b=[1.0])
    same = {"image.a": torch.tensor([0.5, 2.0]), "image.b": torch.tensor([4.0])}
    assert set(factors("snr", trained, given_gradients(same, same, per_image=True)).values()) == {1.0}


def test_snr_of_a_tensor_without_any_gradient_is_zero() -> None:
    trained = tensors(image__a=[1.0, 1.0], image__b=[1.0])
    seen = [{"image.a": torch.tensor([a, 2.0]), "image.b": torch.tensor([0.0])} for a in (0.5, 0.7)]
    assert factors("snr", trained, given_gradients(*seen, per_image=True)) == {"image.a": 1.0, "image.b": 0.0}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), factor=st.floats(1e-3, 1e3))
def test_snr_forgets_the_scale_of_the_loss(seed: int, factor: float) -> None:
    trained = tensors(image__a=[[1.0, -2.0]], image__b=[3.0, 1.0, 1.0], head__b=[7.0, 1.0])
    small = batches(trained, list(range(seed, seed + 6)))
    large = [{name: factor * g for name, g in gradients.items()} for gradients in small]
    one, other = (
        factors("snr", trained, given_gradients(*images, per_image=True), snr_threshold=0) for images in (small, large)
    )
    assert one == {name: pytest.approx(f, rel=1e-3, abs=1e-5) for name, f in other.items()}


def test_the_released_statistic_by_hand() -> None:
    """mean(g^2 / (variance of g over its first dimension + 1e-8)), unbiased variance as torch has it by default."""
    trained = tensors(image__keep=[[1.0, 1.0]] * 2, image__small=[1.0, 1.0, 1.0], image__flat=[[1.0], [1.0]])
    gradients = {
        "image.keep": torch.tensor([[1.0, 2.0], [3.0, 2.0]]),  # variances 2 and 0
        "image.small": torch.tensor([1e-5, 2e-5, 3e-5]),  # variance 1e-10
        "image.flat": torch.tensor([[1.0], [-1.0]]),  # variance 2: (1/2 + 1/2) / 2 = 0.5
    }
    by_hand = {
        "image.keep": (1 / 2 + 9 / 2 + 4 / 1e-8 + 4 / 1e-8) / 4,
        "image.small": sum(k * k * 1e-10 / (1e-10 + 1e-8) for k in (1, 2, 3)) / 3,
        "image.flat": 0.5,
    }
    found = factors("snr-released", trained, given_gradients(gradients))
    assert found == {name: float(value >= 0.95) for name, value in by_hand.items()}
    assert found == {"image.keep": 1.0, "image.small": 0.0, "image.flat": 0.0}


def test_the_released_statistic_is_averaged_over_the_batches() -> None:
    """0.5 alone is frozen; with a batch of 2.5 the mean is 1.5."""
    trained = tensors(image__a=[1.0, 1.0])
    low, high = {"image.a": torch.tensor([1.0, -1.0])}, {"image.a": torch.tensor([3.0, 1.0])}
    assert factors("snr-released", trained, given_gradients(low)) == {"image.a": 0.0}
    assert factors("snr-released", trained, given_gradients(low, high)) == {"image.a": 1.0}


@pytest.mark.parametrize("shape", [(), (1,), (1, 4)])
def test_a_first_dimension_of_one_is_kept_by_the_released_statistic(shape: tuple[int, ...]) -> None:
    """Its variance is not a number, and nothing is smaller than 0.95 then."""
    trained = {"logit_scale": torch.nn.Parameter(torch.ones(shape))}
    tiny = {"logit_scale": torch.full(shape, 1e-9)}
    assert factors("snr-released", trained, given_gradients(tiny, tiny)) == {"logit_scale": 1.0}


def test_a_run_that_would_train_nothing_is_refused(classifier: Classifier, bench: Bench) -> None:
    with pytest.raises(UserError, match=r"methods\.mine\.rates: every factor is 0"):
        fit(classifier, bench.run({"train": ["image", "head"], "rates": {"image": 0, "head": 0}}))


@pytest.mark.parametrize("first", [True, False])
def test_an_epoch_without_signal_changes_nothing_and_the_rule_is_asked_again(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """The released statistic is a threshold on the size of gradients: a run near its optimum freezes altogether."""
    given = [1.0, 0.0, 1.0] if first else [0.0, 0.0, 1.0]
    asked, states = iter(given), []

    def found(self: Rates, ask: object) -> Factors:
        states.append(clone(classifier.state_dict()))
        return dict.fromkeys(self.trained, next(asked))

    monkeypatch.setattr(Rates, "_snr_released", found)
    history = fit(classifier, bench.run({"train": ["image", "head"], "rates": "snr-released"}, recipe=WHOLE))
    ends = pairwise([*states, classifier.state_dict()])
    assert [all(same_bytes(a[key], b[key]) for key in a) for a, b in ends] == [factor == 0 for factor in given]
    assert [set(factors.values()) for factors in history.factors] == [{factor} for factor in given]
    assert all(math.isfinite(terms["ce"]) for terms in history.terms)


# Gradual unfreezing


def awake(trained: dict, rates: str, epoch: int, epochs: int) -> list[str]:
    """Layers that are trained in an epoch."""
    found = factors(rates, trained, no_probe, epoch, epochs)
    assert set(found.values()) <= {0.0, 1.0} and found.keys() == trained.keys()
    by_layer = layers(trained)
    whole = [layer for layer, names in by_layer.items() if all(found[name] for name in names)]
    assert whole == [layer for layer, names in by_layer.items() if any(found[name] for name in names)]
    assert all(found[name] == 1 for name in trained if not name.startswith(("image.", "head.")))
    return whole


def test_unfreezing_goes_layer_by_layer_in_equal_phases(classifier: Classifier) -> None:
    trained = dict(classifier.named_parameters())
    order = ["embedding", "block-0", "block-1", "block-2", "head"]
    for epoch in range(10):
        count = epoch // 2 + 1
        assert awake(trained, "gradual-first", epoch, 10) == order[:count]
        assert awake(trained, "gradual-last", epoch, 10) == order[-count:]


def test_only_the_layers_in_training_take_part() -> None:
    trained = tensors(
        image__transformer__resblocks__9__a=[1.0], image__transformer__resblocks__11__a=[1.0], head__weight=[1.0]
    )
    found = [factors("gradual-last", trained, no_probe, epoch, 3) for epoch in range(3)]
    assert [list(epoch.values()) for epoch in found] == [[0, 0, 1], [0, 1, 1], [1, 1, 1]]


# phase = epoch * layers // epochs. With fewer epochs than layers the last phase is not
# reached: ten epochs (recipe clip) and ViT-B/16's 14 layers end in phase 12 of 13: gradual-first never trains the head
# and gradual-last never the embedding.
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 7, 10, 25])
@pytest.mark.parametrize("rates", ["gradual-first", "gradual-last"])
def test_layers_only_wake_and_all_are_awake_in_the_last_epoch(classifier: Classifier, rates: str, epochs: int) -> None:
    trained = dict(classifier.named_parameters())
    counts = [len(awake(trained, rates, epoch, epochs)) for epoch in range(epochs)]
    assert counts == sorted(counts) and counts[-1] == 5
    assert counts[0] == 1 or epochs < 5


# Factors per part


def test_factors_per_part_and_one_for_the_rest(classifier: Classifier) -> None:
    trained = dict(classifier.named_parameters())
    found, known = factors({"embedding": 0.0, "block-1": 0.25, "head": 10}, trained, no_probe), parts(trained)
    expected = dict.fromkeys(trained, 1.0)
    expected |= dict.fromkeys(known["embedding"], 0.0) | dict.fromkeys(known["block-1"], 0.25)
    expected |= dict.fromkeys(known["head"], 10.0)
    assert found == expected


def test_a_later_part_wins_where_two_overlap(classifier: Classifier) -> None:
    trained = dict(classifier.named_parameters())
    found = factors({"image": 0.1, "block-2": 1.0}, trained, no_probe)
    assert found["image.conv1.weight"] == 0.1 and found["image.ln_post.weight"] == 1


def test_an_unknown_part_of_rates_is_named_with_the_entry(classifier: Classifier) -> None:
    with pytest.raises(UserError, match=r"methods\.mine\.rates: this model has no part 'block-7'"):
        factors({"block-7": 0.1}, dict(classifier.named_parameters()), no_probe)


# parts are looked up among the trained tensors only, and layers() counts blocks from
# the first one there. So with train: [last-blocks] the entry block-0 means another block, and block-11 is unknown.
def test_parts_of_rates_mean_the_same_blocks_as_parts_of_train(classifier: Classifier, bench: Bench) -> None:
    trained = Weights(classifier, bench.run({"train": ["block-1", "block-2"]})).trained
    names = [name for name, _ in classifier.named_parameters()]
    found = factors({"block-2": 0.5}, trained, no_probe, every=names)
    assert {name for name, factor in found.items() if factor == 0.5} == set(parts(names)["block-2"])
    with pytest.raises(UserError, match="no part 'block-0'"):
        factors({"block-0": 0.5}, trained, no_probe, every=names)
