"""TPGM: projection into learned radii."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot.clip import Classifier, State
from surefoot.data import Examples
from surefoot.method_entries import Tpgm
from surefoot.tpgm import START_SHARE, fit_radii, project
from tests.tiny import Bench, clone, moved, same_bytes, same_state

HOW = Tpgm(steps=20, batch_size=10)


@pytest.fixture
def start(classifier: Classifier) -> State:
    """The zero-shot model's state."""
    return clone(classifier.state_dict())


@pytest.fixture
def tuned(start: State) -> State:
    """A state in which the tower's last block and the head moved, as one block of some layers may."""
    return moved(start, ("image.transformer.resblocks.2.", "image.proj", "head."))


@pytest.fixture
def validation(bench: Bench) -> Examples:
    """18 images of id_val."""
    return bench.data.examples(bench.data.task.parts_of("id_val"), 0)


def fitted(
    classifier: Classifier,
    start: State,
    tuned: State,
    validation: Examples,
    bench: Bench,
    how: Tpgm = HOW,
    seed: int = 0,
) -> tuple[dict[str, float], State]:
    """Radii and the projected weights."""
    classifier.load_state_dict(tuned)
    radii = fit_radii(classifier, start, validation, bench.preprocess, how, seed, "mine seed 0")
    return radii, clone(classifier.state_dict())


def test_projection_by_hand() -> None:
    """(3, 4) has length 5; what has no radius stays."""
    theta0 = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([0.0]), "c": torch.tensor([0.0])}
    theta1 = {"a": torch.tensor([4.0, 5.0]), "b": torch.tensor([2.0]), "c": torch.tensor([7.0])}
    found = project(theta0, theta1, {"a": torch.tensor(2.5), "b": torch.tensor(9.0)})
    torch.testing.assert_close(found["a"], torch.tensor([2.5, 3.0]))
    torch.testing.assert_close(found["b"], torch.tensor([2.0]))
    assert found["c"] is theta1["c"]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), radius=st.floats(0, 20))
def test_projected_tensors_lie_in_their_radius_on_the_line_to_the_start(seed: int, radius: float) -> None:
    stream = torch.Generator().manual_seed(seed)
    theta0, theta1 = ({"w": torch.randn(3, 4, generator=stream)} for _ in range(2))
    distance = (theta1["w"] - theta0["w"]).norm()
    found = project(theta0, theta1, {"w": torch.tensor(radius)})["w"]
    assert (found - theta0["w"]).norm() <= min(radius, float(distance)) * (1 + 1e-5) + 1e-6
    share = min(1.0, radius / float(distance))
    torch.testing.assert_close(found, torch.lerp(theta0["w"], theta1["w"], share), rtol=1e-4, atol=1e-5)
    if radius == 0:
        assert torch.equal(found, theta0["w"])


def test_a_radius_beyond_the_distance_changes_nothing(start: State, tuned: State) -> None:
    found = project(start, tuned, {key: torch.tensor(1e6) for key in tuned})
    for key in tuned:
        torch.testing.assert_close(found[key], tuned[key], rtol=1e-6, atol=1e-7)


def test_the_gradient_reaches_a_radius_only_inside_the_distance() -> None:
    theta0, theta1 = {"w": torch.zeros(2)}, {"w": torch.tensor([3.0, 4.0])}
    for radius, expected in ((2.0, 7 / 5), (6.0, 0.0)):
        gamma = torch.tensor(radius, requires_grad=True)
        project(theta0, theta1, {"w": gamma})["w"].sum().backward()
        assert gamma.grad.item() == pytest.approx(expected)


def test_a_fit_moves_what_had_moved_into_its_radii_and_nothing_else(
    classifier: Classifier, start: State, tuned: State, validation: Examples, bench: Bench
) -> None:
    radii, found = fitted(classifier, start, tuned, validation, bench)
    assert set(radii) == {key for key in start if not torch.equal(start[key], tuned[key])}
    for key in start:
        if key in radii:
            distance = (tuned[key] - start[key]).norm().item()
            inside = (found[key] - start[key]).norm().item()
            assert inside == pytest.approx(min(radii[key], distance), rel=1e-4)
            if inside > 1e-6:
                torch.testing.assert_close(
                    (found[key] - start[key]) / inside, (tuned[key] - start[key]) / distance, rtol=1e-3, atol=1e-4
                )
        else:
            assert same_bytes(found[key], start[key])
    assert not classifier.training and not any(p.requires_grad for p in classifier.parameters())


def test_all_radii_start_at_half_of_the_smallest_distance(
    classifier: Classifier, start: State, tuned: State, validation: Examples, bench: Bench
) -> None:
    how = HOW.model_copy(update={"steps": 1, "learning_rate": 1e-12})
    radii, _ = fitted(classifier, start, tuned, validation, bench, how)
    smallest = min((tuned[key] - start[key]).norm().item() for key in radii)
    assert START_SHARE == 0.5
    assert list(radii.values()) == [pytest.approx(smallest / 2)] * len(radii)


def test_without_any_move_there_is_nothing_to_project(
    classifier: Classifier, start: State, validation: Examples, bench: Bench
) -> None:
    radii, found = fitted(classifier, start, start, validation, bench)
    assert radii == {} and same_state(found, start)


@torch.no_grad()
def loss(classifier: Classifier, state: State, validation: Examples, bench: Bench) -> float:
    """Cross-entropy of a state on the validation images."""
    classifier.load_state_dict(state)
    images = bench.preprocess(validation.images(next(validation.batches(100))))
    return F.cross_entropy(classifier(images), torch.from_numpy(validation.labels)).item()


@pytest.mark.parametrize("seed", [0, 1])
def test_learned_radii_lower_the_validation_loss_of_the_radii_they_started_from(
    classifier: Classifier, start: State, tuned: State, validation: Examples, bench: Bench, seed: int
) -> None:
    how = HOW.model_copy(update={"steps": 40, "batch_size": 18})
    first = HOW.model_copy(update={"steps": 1, "learning_rate": 1e-12})
    before = loss(classifier, fitted(classifier, start, tuned, validation, bench, first)[1], validation, bench)
    after = loss(classifier, fitted(classifier, start, tuned, validation, bench, how, seed)[1], validation, bench)
    assert after < before


def test_the_first_step_of_adam_moves_each_radius_by_the_rate_against_the_gradient(
    classifier: Classifier, start: State, tuned: State, validation: Examples, bench: Bench
) -> None:
    """The gradient by finite differences of the validation loss."""
    how = HOW.model_copy(update={"steps": 1, "batch_size": 100, "learning_rate": 1e-3})
    first, _ = fitted(classifier, start, tuned, validation, bench, how.model_copy(update={"learning_rate": 1e-12}))
    radii, _ = fitted(classifier, start, tuned, validation, bench, how)
    for key in ("head.weight", "image.proj"):
        losses = [
            loss(
                classifier,
                project(
                    start, tuned, {k: torch.tensor(r + (sign * 0.02 if k == key else 0)) for k, r in first.items()}
                ),
                validation,
                bench,
            )
            for sign in (-1, 1)
        ]
        step = radii[key] - first[key]
        assert abs(step) == pytest.approx(1e-3, rel=1e-2)
        assert (step < 0) is (losses[1] > losses[0]), key


def test_a_radius_never_gets_negative(
    classifier: Classifier, start: State, tuned: State, validation: Examples, bench: Bench
) -> None:
    how = HOW.model_copy(update={"learning_rate": 10.0, "steps": 5})
    radii, found = fitted(classifier, start, tuned, validation, bench, how)
    assert min(radii.values()) >= 0 and all(tensor.isfinite().all() for tensor in found.values())


def test_a_fit_is_fixed_by_its_seed(
    classifier: Classifier, start: State, tuned: State, validation: Examples, bench: Bench
) -> None:
    how = HOW.model_copy(update={"steps": 4, "batch_size": 5})
    ends = [fitted(classifier, start, tuned, validation, bench, how, seed) for seed in (0, 0, 1)]
    assert ends[0][0] == ends[1][0] and same_state(ends[0][1], ends[1][1])
    assert ends[0][0] != ends[2][0]


def test_the_given_states_are_left_alone(
    classifier: Classifier, start: State, tuned: State, validation: Examples, bench: Bench
) -> None:
    copies = clone(start), clone(tuned)
    fitted(classifier, start, tuned, validation, bench)
    assert same_state(start, copies[0]) and same_state(tuned, copies[1])
