"""Digests of code, so that a changed function reruns its own jobs and a changed comment reruns nothing."""

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a user can write reaches a job as params, so a new key or method must not rerun what does not use it.
LEFT_OUT = {"surefoot/config.py", "surefoot/spaces.py", "surefoot/task_entries.py"}


def code_digest(script: str, *others: str) -> str:
    """Digest of `scripts/{script}.py` and of every module of this package that it imports, directly or not.

    The digest is of the parsed source without comments, docstrings and layout, and of the tables (data/*.json) beside a
    module; `others` are further files that the code reads, such as templates, taken as they are. Raises
    FileNotFoundError for an unknown script or file.
    """
    digest = hashlib.sha256()
    for other in others:
        digest.update((ROOT / other).read_bytes())
    closure = sorted(_closure(ROOT / "scripts" / f"{script}.py"))
    for path in closure:
        digest.update(f"{path.relative_to(ROOT)}\n{_parsed(path)[0]}\n".encode())
    for table in sorted({table for path in closure for table in path.parent.glob("data/*.json")}):
        digest.update(table.read_bytes())
    return digest.hexdigest()[:16]


def _closure(start: Path) -> set[Path]:
    found, open_paths = set(), [start]
    while open_paths:
        path = open_paths.pop()
        if path not in found and str(path.relative_to(ROOT)) not in LEFT_OUT:
            found.add(path)
            open_paths += _parsed(path)[1]
    return found


@cache
def _parsed(path: Path) -> tuple[str, tuple[Path, ...]]:
    """Normal form of a module's source, and the modules of this package that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:] or [ast.Pass()]
    modules = []
    for name in sorted(imported):
        if name.split(".")[0] == "surefoot":
            base = ROOT.joinpath(*name.split("."))
            modules += [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()]
    return ast.dump(tree), tuple(modules)
