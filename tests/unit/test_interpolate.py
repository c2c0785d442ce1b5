"""Weight-space arithmetic."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surefoot.interpolate import check_alike, interpolate
from tests.tiny import same_bytes

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3)


@given(FLOATS, FLOATS)
def test_ends_are_bit_for_bit(first: list[float], second: list[float]) -> None:
    theta0, theta1 = {"w": torch.tensor(first)}, {"w": torch.tensor(second)}
    assert same_bytes(interpolate(theta0, theta1, 0.0)["w"], theta0["w"])
    assert same_bytes(interpolate(theta0, theta1, 1.0)["w"], theta1["w"])


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_ends_keep_negative_zero_and_huge_values(alpha: float) -> None:
    hard = torch.tensor([-0.0, 3.4e38, 1e-45, float("nan")])
    thetas = [{"w": torch.tensor([0.0, -3.4e38, 7.0, 1.0])}, {"w": hard}]
    chosen = thetas if alpha else thetas[::-1]
    assert same_bytes(interpolate(*chosen, alpha)["w"], hard)


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_result_shares_no_memory_with_the_ends(alpha: float) -> None:
    theta0, theta1 = ({"w": torch.zeros(2), "n": torch.tensor(3)} for _ in range(2))
    for tensor in interpolate(theta0, theta1, alpha).values():
        tensor += 1
    assert theta0["w"].sum() == theta1["w"].sum() == 0
    assert theta0["n"] == theta1["n"] == 3


def test_inner_points_by_hand() -> None:
    theta0, theta1 = (
        {"a": torch.tensor([0.0, 2.0]), "b": torch.tensor(4.0)},
        {"a": torch.tensor([4.0, 2.0]), "b": torch.tensor(0.0)},
    )
    middle, quarter = interpolate(theta0, theta1, 0.5), interpolate(theta0, theta1, 0.25)
    assert middle["a"].tolist() == [2.0, 2.0] and middle["b"].item() == 2.0
    assert quarter["a"].tolist() == [1.0, 2.0] and quarter["b"].item() == 3.0


@given(FLOATS, FLOATS, st.floats(0, 1))
def test_equals_the_formula_and_stays_between_the_ends(first: list[float], second: list[float], alpha: float) -> None:
    x, y = (torch.tensor(values) / 2 for values in (first, second))
    mixed = interpolate({"w": x}, {"w": y}, alpha)["w"]
    expected = (1 - alpha) * x.double() + alpha * y.double()
    size = torch.maximum(x.abs(), y.abs()).double()
    assert ((mixed.double() - expected).abs() <= 1e-6 * size + 1e-40).all()


@given(FLOATS, FLOATS, st.floats(0, 1))
def test_a_tensor_that_did_not_move_stays_bit_for_bit(first: list[float], second: list[float], alpha: float) -> None:
    still, end = torch.tensor(first), torch.tensor(second)
    mixed = interpolate({"s": still, "w": still}, {"s": still.clone(), "w": end}, alpha)
    assert torch.equal(mixed["s"], still)


@pytest.mark.parametrize(("alpha", "count"), [(0, 10), (0.4, 10), (0.5, 20), (0.6, 20), (1, 20)])
def test_counters_come_from_the_nearer_end(alpha: float, count: int) -> None:
    mixed = interpolate({"n": torch.tensor(10)}, {"n": torch.tensor(20)}, alpha)["n"]
    assert mixed.dtype == torch.int64 and mixed.item() == count


def test_other_keys_are_an_error_that_names_them() -> None:
    one = {"a": torch.zeros(1), "b": torch.zeros(1)}
    for pair in ((one, {"a": torch.zeros(1)}), ({"a": torch.zeros(1)}, one)):
        with pytest.raises(ValueError, match=r"tensors: b$"):
            interpolate(*pair, 0.5)
        with pytest.raises(ValueError, match=r"tensors: b$"):
            interpolate(*pair, 0.0)


def test_other_shapes_are_an_error_even_where_they_broadcast() -> None:
    with pytest.raises(ValueError, match=r"w: shapes \(1,\) and \(3,\)"):
        check_alike({"w": torch.zeros(1)}, {"w": torch.zeros(3)})
    with pytest.raises(ValueError, match="shapes"):
        interpolate({"w": torch.zeros(1)}, {"w": torch.zeros(3)}, 1.0)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), float("inf")])
def test_alpha_outside_the_line_is_an_error(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        interpolate({"w": torch.zeros(1)}, {"w": torch.ones(1)}, alpha)
