"""Choosing alpha on validation records only."""

import pandas as pd
import pytest

from surefoot.select import best_alpha, choose_alpha, validation_only

ROLE = {"id_val": "id_val", "ood_val": "ood_val", "id_test": "id_test", "line": "ood_test"}


def records(values: dict[tuple[str, int], list[float]], space: str = "weights", metric: str = "top1") -> pd.DataFrame:
    """Metric rows from (eval set, seed) -> the values at alpha 0, 0.5 and 1."""
    return pd.DataFrame(
        {
            "seed": seed,
            "eval_set": name,
            "role": ROLE[name],
            "space": space,
            "alpha": alpha,
            "metric": metric,
            "value": value,
        }
        for (name, seed), row in values.items()
        for alpha, value in zip((0.0, 0.5, 1.0), row, strict=True)
    )


def test_takes_the_best_value_per_seed() -> None:
    found = choose_alpha(records({("ood_val", 0): [1, 3, 2], ("ood_val", 1): [1, 2, 3]}), "ood_val", "top1")
    assert found == {0: 0.5, 1: 1.0}


def test_ties_go_to_the_smallest_alpha_in_any_row_order() -> None:
    rows = records({("ood_val", 0): [1, 3, 3], ("ood_val", 1): [2, 2, 2]})
    assert choose_alpha(rows, "ood_val", "top1") == {0: 0.5, 1: 0.0}
    assert choose_alpha(rows.iloc[::-1], "ood_val", "top1") == {0: 0.5, 1: 0.0}


def test_reads_only_the_asked_set_metric_and_space() -> None:
    rows = pd.concat(
        [
            records({("ood_val", 0): [1, 3, 2], ("id_val", 0): [1, 2, 3]}),
            records({("ood_val", 0): [9, 0, 0]}, metric="nll"),
            records({("ood_val", 0): [0, 0, 9]}, space="outputs"),
        ]
    )
    assert choose_alpha(rows, "ood_val", "top1") == {0: 0.5}
    assert choose_alpha(rows, "id_val", "top1") == {0: 1.0}
    assert choose_alpha(rows, "ood_val", "nll") == {0: 0.0}
    assert choose_alpha(rows, "ood_val", "top1", space="outputs") == {0: 1.0}


@pytest.mark.parametrize("test_set", ["id_test", "line"])
def test_one_test_record_among_validation_records_is_an_error(test_set: str) -> None:
    rows = records({("ood_val", 0): [1, 3, 2], (test_set, 0): [1, 2, 3]})
    with pytest.raises(ValueError, match="test records"):
        choose_alpha(rows, "ood_val", "top1")


def test_an_unknown_role_is_an_error() -> None:
    rows = records({("ood_val", 0): [1, 3, 2]}).assign(role="target_test")
    with pytest.raises(ValueError, match="test records"):
        choose_alpha(rows, "ood_val", "top1")


def test_no_test_number_changes_the_choice() -> None:
    """The same validation values beside opposite test values, also under the validation set's own name."""
    answers = []
    for test in ([9, 0, 0], [0, 0, 9]):
        rows = records({("ood_val", 0): [1, 3, 2], ("line", 0): test, ("id_test", 0): test})
        disguised = records({("line", 0): [100 * v for v in test]}).assign(eval_set="ood_val")
        answers.append(choose_alpha(validation_only(pd.concat([rows, disguised])), "ood_val", "top1"))
    assert answers == [{0: 0.5}, {0: 0.5}]


def test_oracle_averages_over_sets() -> None:
    rows = records({("line", 0): [3, 2, 0], ("id_test", 0): [0, 2, 3]})
    assert best_alpha(rows) == {0: 0.5}
