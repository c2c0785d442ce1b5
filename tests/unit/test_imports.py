"""What stays light: the Snakefile and the tables must not wait for torch."""

import subprocess
import sys

import pytest

from surefoot.fingerprint import ROOT


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "surefoot.flow, surefoot.story, surefoot.config, surefoot.fingerprint, surefoot.files",
            ("torch", "pandas", "numpy", "open_clip"),
        ),
        ("surefoot.tables, surefoot.results, surefoot.select, surefoot.intervals", ("torch", "open_clip")),
        ("surefoot.figures, surefoot.report", ("torch", "open_clip")),
        ("scripts.prepare, scripts.fetch_model, scripts.write_task_card", ("torch", "open_clip")),
        ("scripts.draw_contact_sheet, scripts.learn", ("torch", "open_clip")),
    ],
)
def test_imports_stay_light(modules: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_plan_of_the_default_config_needs_nothing_heavy() -> None:
    """Naming every file of the default run, as a dry run does."""
    code = """
import sys, yaml
from types import SimpleNamespace
from surefoot import config, flow, fingerprint, story
plan = flow.Plan(config.parse_config(yaml.safe_load(open("config/config.yaml"))))
wildcards = SimpleNamespace(task="emoji-style", model="emoji-clip", method="ft")
assert plan.splits(wildcards) and plan.weights(wildcards) and story.build_story(plan)
assert fingerprint.code_digest("finetune")
print(*[name for name in ("torch", "pandas", "numpy", "PIL", "open_clip") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_library_never_imports_snakemake() -> None:
    for path in (ROOT / "surefoot").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import snakemake" not in text and "from snakemake" not in text, path
