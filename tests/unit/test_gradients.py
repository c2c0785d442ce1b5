"""Gradients of a step in one piece and in parts of the batch."""

import pytest
import torch

from surefoot.clip import Classifier
from surefoot.files import UserError
from surefoot.gradients import Gradients
from surefoot.objective import MIXES_IMAGES, TERMS, Context, Objective
from surefoot.references import References
from surefoot.train import fit
from surefoot.weights import Weights
from tests.tiny import RECIPE, Bench, clone

BOTH = ["image", "head"]
HALVE = RECIPE.model_copy(update={"out_of_memory": "halve"})
PLAIN = {"optimizer": "sgd", "learning_rate": 0.01}  # Adam divides by what rounding has changed


def gradients_of(
    classifier: Classifier, bench: Bench, term: str, parts: int, halve: bool = False
) -> tuple[float, dict, dict]:
    """Loss, terms and gradients of a step of seven images."""
    run = bench.run({"train": BOTH, "objective": {term: 2.0, "l2zero": 0.5}})
    weights, examples = Weights(classifier, run), run.examples
    run.references.remember_start(weights.trained)
    with torch.no_grad():
        for tensor in weights.trained.values():  # off the start, where distances to it have no gradient
            tensor.add_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)
    indices = next(examples.shuffled(7, 0, 0))
    x, y = run.preprocess(examples.images(indices)), torch.from_numpy(examples.labels)[indices]
    step = Gradients(Objective(run.training.objective), classifier, weights.trained, "mine", halve, parts)
    loss, values = step(lambda part: Context(classifier, x[part], y[part], 0.1, weights.trained, run.references), 7)
    return float(loss), values, {name: tensor.grad.clone() for name, tensor in weights.trained.items()}


@pytest.mark.parametrize("term", sorted(TERMS.keys() - MIXES_IMAGES))
def test_the_sum_of_the_parts_is_the_step(classifier: Classifier, bench: Bench, term: str) -> None:
    start = clone(classifier.state_dict())
    whole = gradients_of(classifier, bench, term, 1)
    for parts in (2, 4, 7):
        classifier.load_state_dict(start)
        loss, values, gradients = gradients_of(classifier, bench, term, parts)
        assert loss == pytest.approx(whole[0], rel=1e-5)
        assert {key: float(value) for key, value in values.items()} == pytest.approx(
            {key: float(value) for key, value in whole[1].items()}, rel=1e-5
        )
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, whole[2][name], rtol=1e-4, atol=1e-6)


def test_a_term_that_compares_images_is_another_one_in_parts(classifier: Classifier, bench: Bench) -> None:
    start = clone(classifier.state_dict())
    whole = gradients_of(classifier, bench, "flyp", 1)
    classifier.load_state_dict(start)
    assert gradients_of(classifier, bench, "flyp", 2)[0] != pytest.approx(whole[0], rel=0.01)


def test_accumulation_is_the_same_step_and_contrasts_within_its_parts(classifier: Classifier, bench: Bench) -> None:
    """With every caption as in the whole batch, so flyp is the mean of FLYP's loss on each part by hand."""
    run = bench.run({"train": [*BOTH, "text"], "objective": {"flyp": 1.0}}, RECIPE.model_copy(update=PLAIN))
    weights, labels = Weights(classifier, run), torch.tensor([1, 0, 2, 1, 0, 2, 1, 0])
    x = run.preprocess(run.examples.images(torch.arange(8).numpy()))
    scale = run.references.trained_text.clip.logit_scale.exp()
    tokens = run.references.caption_tokens(labels, 3)
    assert torch.equal(tokens[4:], run.references.caption_tokens(labels[4:], 3, 4))
    assert not torch.equal(tokens[4:], run.references.caption_tokens(labels[4:], 3))
    products = scale * classifier.encode(x) @ run.references.trained_text.encode(tokens).T
    log_p = [products[part, part] for part in (slice(0, 4), slice(4, 8))]
    by_hand = [-(p.log_softmax(0).diag().mean() + p.log_softmax(1).diag().mean()) / 2 for p in log_p]
    step = Gradients(Objective(run.training.objective), classifier, weights.trained, "mine", False, 2)
    loss, _ = step(
        lambda p: Context(classifier, x[p], labels[p], 0, weights.trained, run.references, 3, first=p.start), 8
    )
    assert float(loss) == pytest.approx(sum(by_hand).item() / 2, rel=1e-5)


def test_captions_of_a_run_are_those_of_the_whole_batch(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, caption_tokens = clone(classifier.state_dict()), References.caption_tokens
    seen: dict[int, list[torch.Tensor]] = {}

    def kept(self: References, labels: torch.Tensor, step: int, first: int = 0) -> torch.Tensor:
        seen.setdefault(step, []).append(caption_tokens(self, labels, step, first))
        return seen[step][-1]

    monkeypatch.setattr(References, "caption_tokens", kept)
    found = []
    for accumulation in (1, 4):
        classifier.load_state_dict(start)
        recipe = RECIPE.model_copy(update={**PLAIN, "accumulation": accumulation})
        training = {"train": [*BOTH, "text"], "objective": {"flyp": 1.0}}
        fit(classifier, bench.run(training, recipe, progress=f"{accumulation}"))
        found.append({step: torch.cat(parts) for step, parts in seen.items()})
        assert max(len(parts) for parts in seen.values()) == accumulation
        seen.clear()
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(tokens, found[1][step]) for step, tokens in found[0].items())


def test_a_recipe_asks_for_accumulation(classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    start, encode, sizes = clone(classifier.state_dict()), Classifier.encode, []
    fit(classifier, bench.run({"train": BOTH}, RECIPE.model_copy(update=PLAIN), progress="whole"))
    whole = clone(classifier.state_dict())
    classifier.load_state_dict(start)
    monkeypatch.setattr(Classifier, "encode", lambda self, images: (sizes.append(len(images)), encode(self, images))[1])
    recipe = RECIPE.model_copy(update={**PLAIN, "accumulation": 4})
    assert fit(classifier, bench.run({"train": BOTH}, recipe, progress="parts")).parts == 4
    assert max(sizes) == 2
    for key, tensor in classifier.state_dict().items():
        torch.testing.assert_close(tensor, whole[key], rtol=1e-4, atol=1e-5)


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No more than three images fit; the list gets the size of each attempt."""
    encode, tried = Classifier.encode, []

    def limited(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        tried.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return encode(self, images)

    monkeypatch.setattr(Classifier, "encode", limited)
    return tried


@pytest.mark.fault(
    "memory and GPUs",
    "a step does not fit into the GPU, with out_of_memory: halve",
    "steps are computed in 2, 4, … parts from then on, the same up to rounding; the record says in how many",
)
def test_out_of_memory_halves_until_a_step_fits(
    classifier: Classifier, bench: Bench, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, said
) -> None:
    start = clone(classifier.state_dict())
    fit(classifier, bench.run({"train": BOTH}, RECIPE.model_copy(update=PLAIN), progress="whole"))
    whole = clone(classifier.state_dict())
    classifier.load_state_dict(start)
    tried = request.getfixturevalue("small_memory")
    history = fit(classifier, bench.run({"train": BOTH}, HALVE.model_copy(update=PLAIN), progress="parts"))
    assert history.parts == 4 and tried[:4] == [8, 4, 2, 2] and max(tried[4:]) <= 3
    assert "mine seed 0: out of memory; steps are computed in 4 parts from now on" in caplog.messages
    said(caplog.messages[-1])
    for key, tensor in classifier.state_dict().items():
        torch.testing.assert_close(tensor, whole[key], rtol=1e-4, atol=1e-5)
    assert not torch.equal(start["head.weight"], classifier.state_dict()["head.weight"])


def test_what_failed_before_leaves_nothing_in_the_gradients(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory ends in the second of two parts, when the first has been added."""
    start = clone(classifier.state_dict())
    whole = gradients_of(classifier, bench, "ce", 4)
    classifier.load_state_dict(start)
    encode, calls = Classifier.encode, []

    def ends(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, images)

    monkeypatch.setattr(Classifier, "encode", ends)
    found = gradients_of(classifier, bench, "ce", 2, halve=True)
    assert len(calls) == 2 + 4
    for name, gradient in found[2].items():
        assert torch.equal(gradient, whole[2][name])


@pytest.mark.fault(
    "memory and GPUs", "a step does not fit, with out_of_memory: stop (the default)", "the job ends; nothing is halved"
)
def test_out_of_memory_stops_unless_told_otherwise(
    classifier: Classifier, bench: Bench, small_memory: list[int]
) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        fit(classifier, bench.run({"train": BOTH}))
    assert small_memory == [8]


@pytest.mark.fault(
    "memory and GPUs",
    "a step does not fit, and a term compares the images of a batch (flyp), or a batch norm trains",
    "the job ends: in parts it would be another objective",
)
@pytest.mark.parametrize("why", ["batch norm", "flyp"])
def test_what_compares_images_is_never_halved(
    classifier: Classifier, bench: Bench, small_memory: list[int], why: str, said
) -> None:
    training = {"train": BOTH, "objective": {"ce": 1.0} | ({"flyp": 1.0} if why == "flyp" else {})}
    if why == "batch norm":
        classifier.image.add_module("norm", torch.nn.BatchNorm2d(3))
    with pytest.raises(
        UserError, match=rf"with {why} more parts than accumulation \(1\) would be another objective: set precision"
    ) as told:
        fit(classifier, bench.run(training, HALVE))
    said(str(told.value))


def test_a_single_image_that_does_not_fit_ends_the_job(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Classifier, "encode", never)
    with pytest.raises(torch.OutOfMemoryError):
        fit(classifier, bench.run({"train": BOTH}, HALVE))
