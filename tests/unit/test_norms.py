"""Norms of the weights and distances to the start: their formula, their parts, and where they are exactly zero."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given

from surefoot.clip import Classifier, State
from surefoot.files import UserError
from surefoot.method_entries import NORMS, Recipe
from surefoot.objective import TERMS, Context, Objective
from surefoot.references import References
from surefoot.train import fit
from surefoot.weights import Weights
from tests.terms import FAST, SEEDS, batch, normal, value
from tests.tiny import Bench, clone, moved, same_state


def on_weights(theta: State, start: State) -> Context:
    """A context in which the trained tensors and their start are given."""
    trained = {name: torch.nn.Parameter(tensor) for name, tensor in theta.items()}
    return Context(SimpleNamespace(), torch.zeros(1, 1), torch.zeros(1), 0, trained, SimpleNamespace(start=start))


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("l1zero", (1 + 2 + 3 + 4 + 6) / 5),
        ("l2zero", (1 + 4 + 9 + 16 + 36) / 5),
        ("l1init", (0 + 4 + 1 + 0 + 3) / 5),
        ("l2init", (0 + 16 + 1 + 0 + 9) / 5),
    ],
)
def test_norms_by_hand(term: str, expected: float) -> None:
    """P counts scalars, not tensors; what is not trained does not count."""
    theta = {"a": torch.tensor([[1.0, -2.0], [3.0, -4.0]]), "b": torch.tensor(6.0)}
    start = {"a": torch.tensor([[1.0, 2.0], [2.0, -4.0]]), "b": torch.tensor(3.0), "frozen": torch.tensor(100.0)}
    assert TERMS[term](on_weights(theta, start)).item() == pytest.approx(expected)


@FAST
@given(SEEDS)
def test_norms_are_plain_loops(seed: int) -> None:
    theta, start = ({"a": normal(seed + i, 3, 4), "b": normal(seed + i + 7, 5)} for i in (0, 1))
    pairs = [(x, x0) for name in theta for x, x0 in zip(theta[name].flatten(), start[name].flatten(), strict=True)]
    context, count = on_weights(theta, start), len(pairs)
    for term, one in {
        "l1zero": lambda x, x0: abs(x),
        "l2zero": lambda x, x0: x * x,
        "l1init": lambda x, x0: abs(x - x0),
        "l2init": lambda x, x0: (x - x0) ** 2,
    }.items():
        expected = sum(one(float(x), float(x0)) for x, x0 in pairs) / count
        assert TERMS[term](context).item() == pytest.approx(expected, rel=1e-5), term


@FAST
@given(SEEDS)
def test_gradient_of_l2init_is_twice_the_distance_over_the_scalars(seed: int) -> None:
    theta, start = ({"a": normal(seed + i, 3, 4), "b": normal(seed + i + 7, 5)} for i in (0, 1))
    context = on_weights(theta, start)
    TERMS["l2init"](context).backward()
    for name, tensor in context.trained.items():
        torch.testing.assert_close(tensor.grad, 2 * (theta[name] - start[name]) / 17)


@pytest.mark.parametrize("term", ["l1init", "l2init"])
def test_distances_to_the_start_are_zero_at_the_start_with_zero_gradient(
    term: str, classifier: Classifier, bench: Bench, known: References
) -> None:
    known.remember_start(dict(classifier.named_parameters()))
    loss = value(term, classifier, bench, known)
    loss.backward()
    assert loss.item() == 0 and not any(p.grad.any() for p in classifier.parameters())


def test_the_start_is_a_copy(classifier: Classifier, bench: Bench, known: References) -> None:
    """AutoFT's final run kept the live tensors, so its distances were zero throughout."""
    known.remember_start(dict(classifier.named_parameters()))
    with torch.no_grad():
        for tensor in classifier.parameters():
            tensor += 0.5
    assert value("l1init", classifier, bench, known).item() == pytest.approx(0.5, rel=1e-4)
    assert value("l2init", classifier, bench, known).item() == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("base", ["zero-shot", "another start"])
def test_a_run_pulls_to_where_it_started(classifier: Classifier, bench: Bench, base: str) -> None:
    """Trained on nothing but the pull, a run stays where it is to the bit."""
    start = clone(classifier.state_dict())
    if base == "another start":
        start = moved(start, ("image.", "head."))
        classifier.load_state_dict(start)
    recipe = Recipe(learning_rate=1e-2, weight_decay=0, batch_size=16, epochs=2, warmup=0)
    history = fit(classifier, bench.run({"train": ["image", "head"], "objective": {"l2init": 1000}}, recipe))
    assert [epoch["l2init"] for epoch in history.terms] == [0, 0]
    assert all(torch.equal(start[key], tensor) for key, tensor in classifier.state_dict().items())


@pytest.mark.parametrize("term", ["l1init", "l2init", "l2init@head"])
def test_distances_to_the_live_weights_are_exactly_zero_and_pull_at_nothing(
    classifier: Classifier, bench: Bench, term: str
) -> None:
    """options.distances: live is the final run of AutoFT's released code; from the start they grow and pull."""
    start, ends, found = clone(classifier.state_dict()), {}, {}
    for how, objective in {"start": {term: 100}, "live": {term: 100}, "none": {}}.items():
        classifier.load_state_dict(start)
        options = {} if how == "none" else {"distances": how}
        training = {"train": ["image", "head"], "objective": {"ce": 1, **objective}, "options": options}
        history = fit(classifier, bench.run(training, progress=how))
        ends[how], found[how] = clone(classifier.state_dict()), [epoch.get(term) for epoch in history.terms]
    assert found["live"] == [0.0] * 3 and all(value > 0 for value in found["start"])
    assert same_state(ends["live"], ends["none"]) and not same_state(ends["start"], ends["none"])


PARTITIONS = [
    ["image", "text", "head", "logit_scale"],
    ["embedding", "block-0", "block-1", "block-2", "text", "head", "logit_scale"],
    ["embedding", "first-blocks", "middle-blocks", "last-blocks", "text", "head", "logit_scale"],
]


@pytest.mark.parametrize("term", NORMS)
@pytest.mark.parametrize("partition", PARTITIONS, ids=len)
def test_norms_of_all_parts_sum_to_the_norm_of_the_whole(
    classifier: Classifier, bench: Bench, term: str, partition: list[str]
) -> None:
    """P counts all trained scalars in each of them, so equal weights of all parts are one weight of the whole."""
    run = bench.run({"train": ["image", "text", "head", "logit_scale"]})
    trained = Weights(classifier, run).trained
    run.references.remember_start(trained)
    for number, tensor in enumerate(trained.values()):
        tensor.data += normal(number, tensor.numel(), size=0.1).view_as(tensor)
    context = Context(classifier, *batch(bench), trained=trained, references=run.references)
    whole, _ = Objective({term: 3})(context)
    expected = torch.autograd.grad(whole, trained.values())
    summed, values = Objective({f"{term}@{part}": 3 for part in partition})(context)
    torch.testing.assert_close(summed, whole, rtol=1e-5, atol=0)
    assert len(values) == len(partition) and all(value > 0 for value in values.values())
    for one, other in zip(torch.autograd.grad(summed, trained.values()), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)


def test_the_norm_of_a_part_is_that_of_its_tensors_alone(classifier: Classifier, bench: Bench) -> None:
    run = bench.run({"train": ["image", "head"]})
    trained = Weights(classifier, run).trained
    context = Context(classifier, *batch(bench), trained=trained, references=run.references)
    _, values = Objective({"l2zero@head": 1, "l1zero@block-1": 1})(context)
    scalars = sum(tensor.numel() for tensor in trained.values())
    block = torch.cat([t.flatten() for n, t in trained.items() if n.startswith("image.transformer.resblocks.1.")])
    assert values["l2zero@head"].item() == pytest.approx(classifier.head.weight.square().sum().item() / scalars)
    assert values["l1zero@block-1"].item() == pytest.approx(block.abs().sum().item() / scalars, rel=1e-5)


def test_a_norm_of_a_part_that_is_not_trained_is_named(classifier: Classifier, bench: Bench) -> None:
    training = {"train": ["image"], "objective": {"ce": 1, "l2init@head": 1}}
    with pytest.raises(UserError, match=r"methods\.mine\.objective\.l2init@head: no part 'head' among what is trained"):
        fit(classifier, bench.run(training))
