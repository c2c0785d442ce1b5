"""Names of columns that one stage writes and others read. No torch: the tables read them too."""


def prediction_column(space: str, alpha: float) -> str:
    """Column of the per-image table that holds the arg-max of a combination: `weights_0.500`."""
    return f"{space}_{alpha:.3f}"
