"""The exact logistic regression, against scikit-learn's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from surefoot import probe
from surefoot.clip import Classifier, zero_shot_classifier
from surefoot.files import UserError
from surefoot.method_entries import Augmentation, Head, Recipe
from surefoot.passes import encode
from surefoot.probe import solve
from tests.tiny import Bench, clone, same_bytes

HEAD_ONLY = {"train": ["head"]}


def recipe(**changes: object) -> Recipe:
    """A recipe of the solver."""
    return Recipe.model_validate({"optimizer": "lbfgs", "weight_decay": 1e-2, "batch_size": 8, **changes})


def reference(
    classifier: Classifier, bench: Bench, decay: float, bias: bool
) -> tuple[np.ndarray, LogisticRegression, torch.Tensor]:
    """Features of all training images, scikit-learn's optimum on them, and their labels."""
    examples = bench.data.training(0)
    features = encode(classifier, examples, bench.preprocess, 100).double().numpy()
    model = LogisticRegression(
        C=1 / (len(examples) * decay), fit_intercept=bias, solver="newton-cg", tol=1e-10, max_iter=1000
    )
    return features, model.fit(features, examples.labels), torch.from_numpy(examples.labels)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("decay", [1e-4, 0.1])
def test_the_optimum_is_scikit_learns(bench: Bench, scaled: bool, bias: bool, decay: float) -> None:
    """The solver stops at a gradient of 1e-7 a weight, which is at most 1e-6 / decay from the optimum."""
    classifier = zero_shot_classifier(bench.model, bench.head, Head(scaled=scaled, bias=bias))
    encoded, model, labels = reference(classifier, bench, decay, bias)
    features, before = torch.from_numpy(encoded), clone(classifier.state_dict())
    history = solve(classifier, bench.run(HEAD_ONLY, recipe(weight_decay=decay)))
    after = classifier.state_dict()
    scale = 1 if scaled else after["logit_scale"].exp().item()
    rows, optimum = scale * after["head.weight"].double(), torch.from_numpy(model.coef_)
    shift, intercept = torch.zeros(3), torch.from_numpy(model.intercept_)
    if bias:  # cross-entropy is blind to a constant, and a bias is not penalised
        shift = scale * after["head.bias"].double()
        assert shift.abs().max() > 1e-3
    close = 1e-6 / decay + 1e-6 * float(optimum.abs().max())
    torch.testing.assert_close(rows, optimum, rtol=0, atol=close)
    torch.testing.assert_close((shift - shift.mean()).double(), intercept - intercept.mean(), rtol=0, atol=close)

    def loss(rows: torch.Tensor, shift: torch.Tensor) -> float:
        penalty = decay / 2 * rows.square().sum()
        return float(F.cross_entropy(features @ rows.T + shift, labels) + penalty)

    assert loss(rows, shift) == pytest.approx(loss(optimum, intercept), rel=1e-7)
    with torch.no_grad():
        p = classifier.classify(features.float()).softmax(-1)
    np.testing.assert_allclose(p, model.predict_proba(features), rtol=0, atol=1e-5)
    expected = F.cross_entropy(features @ optimum.T + intercept, labels).item()
    assert history.terms == [{"ce": pytest.approx(expected, rel=1e-4)}]
    moved = {name for name in before if not same_bytes(before[name], after[name])}
    assert moved == {"head.weight"} | ({"head.bias"} if bias else set())


def test_no_better_head_is_near(classifier: Classifier, bench: Bench) -> None:
    """At the optimum the gradient of the penalised loss vanishes, label smoothing included."""
    solve(classifier, bench.run(HEAD_ONLY, recipe(label_smoothing=0.2)))
    examples = bench.data.training(0)
    features = encode(classifier, examples, bench.preprocess, 100).double()
    rows = (classifier.head.weight.detach().double() * classifier.logit_scale.detach().double().exp()).requires_grad_()
    loss = F.cross_entropy(features @ rows.T, torch.from_numpy(examples.labels), label_smoothing=0.2)
    (loss + 1e-2 / 2 * rows.square().sum()).backward()
    assert rows.grad.abs().max() < 1e-5


def test_parts_of_the_images_sum_to_the_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of 7 of 30 images, so that the last one is smaller."""
    heads = []
    for part in (10**6, 7):
        monkeypatch.setattr(probe, "PART", part)
        classifier = zero_shot_classifier(bench.model, bench.head)
        history = solve(classifier, bench.run(HEAD_ONLY, recipe(label_smoothing=0.1)))
        heads.append((classifier.head.weight.detach(), history.terms[0]["ce"]))
    torch.testing.assert_close(heads[0][0], heads[1][0], rtol=1e-4, atol=1e-5)
    assert heads[0][1] == pytest.approx(heads[1][1], rel=1e-6)


def test_the_start_does_not_matter(classifier: Classifier, bench: Bench) -> None:
    solve(classifier, bench.run(HEAD_ONLY, recipe()))
    once = clone(classifier.state_dict())
    with torch.no_grad():
        classifier.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    solve(classifier, bench.run(HEAD_ONLY, recipe()))
    assert same_bytes(once["head.weight"], classifier.state_dict()["head.weight"])


@pytest.mark.parametrize(
    "training",
    [
        {"train": ["image", "head"]},
        {"train": ["logit_scale"]},
        {"train": ["head"], "objective": {"ce": 1, "l2zero": 1}},
        {"train": ["head"], "objective": {"ce": 2}},
        {"train": ["head"], "objective": {"hinge": 1}},
    ],
)
def test_other_parts_and_objectives_are_refused(classifier: Classifier, bench: Bench, training: dict) -> None:
    with pytest.raises(UserError, match=r"mine seed 0: optimizer lbfgs is for train: \[head\]"):
        solve(classifier, bench.run(training, recipe()))


def test_changing_images_are_refused(classifier: Classifier, bench: Bench) -> None:
    with pytest.raises(UserError, match="lbfgs needs images that do not change"):
        solve(classifier, bench.run(HEAD_ONLY, recipe(augmentation=Augmentation(mirror=0.5))))
