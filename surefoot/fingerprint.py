"""Digests of code, so that a changed function reruns its own jobs and a changed comment reruns nothing."""

import ast
import hashlib
import json
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from surefoot.files import UserError, write_json

ROOT = Path(__file__).resolve().parent.parent
# What a user can write reaches a job as params, so a new key or method must not rerun what does not use it.
LEFT_OUT = {f"surefoot/{name}.py" for name in ("config", "method_entries", "run_entries", "spaces", "task_entries")}
# What modules came to, by the digest of their text: to parse all of them takes as long as to plan a run.
KNOWN = Path(".snakemake", "surefoot_modules.json")
_used: dict[str, list] = {}


def share_library() -> None:
    """Let the scripts of all jobs import this library from where it is, without installing it."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(ROOT) not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, known)])


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
    """Digest of the normal form of a module's source, and the modules of this package that it imports."""
    text = path.read_bytes()
    key = hashlib.sha256(text + _rule()).hexdigest()
    _used[key] = normal, imported = _used.get(key) or _kept().get(key) or _normal(ast.parse(text))
    modules = []
    for name in imported:
        base = ROOT.joinpath(*name.split("."))
        modules += [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()]
    return normal, tuple(modules)


@cache
def _rule() -> bytes:
    """What else a normal form depends on: this module and Python."""
    return Path(__file__).read_bytes() + sys.version.encode()


def _normal(tree: ast.Module) -> list:
    """Digest of a module without comments, docstrings and layout, and the names that it imports of this package."""
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
    ours = sorted(name for name in imported if name.split(".")[0] == "surefoot")
    return [hashlib.sha256(ast.dump(tree).encode()).hexdigest(), ours]


@cache
def _kept() -> dict[str, list]:
    """What an earlier run kept; nothing if that cannot be read."""
    with suppress(OSError, ValueError):
        kept = json.loads((ROOT / KNOWN).read_text(encoding="utf-8"))
        return kept if isinstance(kept, dict) else {}
    return {}


def keep_parsed() -> None:
    """Keep for the next run what the modules of this one came to; where nothing can be written, do without."""
    if _used != _kept():
        with suppress(UserError, OSError):
            write_json(ROOT / KNOWN, _used)
