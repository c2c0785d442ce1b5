"""How tables are printed: LaTeX that compiles, and the names that people know."""

import pandas as pd

from surefoot.layouts import layout, to_latex


def test_latex_escapes_every_special_character() -> None:
    text = to_latex(pd.DataFrame({"a_b": ["50 % & $5 #1 {x} ~ ^ back\\slash"]}))
    assert r"a\_b" in text
    assert r"50 \% \& \$5 \#1 \{x\} \textasciitilde{} \textasciicircum{} back\textbackslash{}slash" in text
    assert text.startswith(r"\begin{tabular}{l}") and r"\toprule" in text


def test_long_texts_are_broken_in_latex_and_share_what_the_line_has_left() -> None:
    table = pd.DataFrame({"a": ["x" * 10], "b": ["words " * 50], "c": ["y" * 35], "d": ["words " * 50]})
    assert to_latex(table).startswith(r"\begin{tabular}{lp{0.25\linewidth}lp{0.25\linewidth}}")
    assert to_latex(table[["a", "b"]]).startswith(r"\begin{tabular}{lp{0.89\linewidth}}")


def test_printed_tables_name_methods_and_spaces_by_their_labels() -> None:
    story = {"labels": {"ft": "FT", "autoft": "AutoFT"}}
    table = pd.DataFrame(
        {"method": ["ft", "autoft@search-0", "other"], "space": ["autoft", "autoft", "x"], "n": [1, 2, 3]}
    )
    printed = layout("cost", table, story)
    assert list(printed["method"]) == ["FT", "AutoFT, search 0", "other"]
    assert list(printed["space"]) == ["AutoFT", "AutoFT", "x"]
    assert list(layout("methods", table, story)["method"]) == list(table["method"])
    assert list(table["method"]) == ["ft", "autoft@search-0", "other"]
