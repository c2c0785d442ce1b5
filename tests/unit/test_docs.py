"""The reference of the config says what the models say."""

import json
import subprocess
import sys
from copy import deepcopy

import pytest
import yaml
from snakemake.utils import update_config

from surefoot import docs
from surefoot.config import Config, parse_config


@pytest.mark.parametrize(("name", "make"), [("README.md", docs.config_markdown), ("schema.json", docs.schema_json)])
def test_files_are_up_to_date(name, make):
    written = (docs.CONFIG_FOLDER / name).read_text(encoding="utf-8")
    assert written == make(), f"config/{name} is out of date; run `{docs.REMAKE}`"


def test_every_key_is_described():
    schema, text = Config.model_json_schema(), docs.config_markdown()
    for node in [schema, *schema["$defs"].values()]:
        for key, inner in node["properties"].items():
            assert f"\n| `{key}` |" in text
            assert inner.get("description") or "$ref" in inner, key
    for name in schema["$defs"]:
        assert f"\n### {name}\n" in text


def test_links_have_targets():
    text = docs.config_markdown()
    headings = {line.removeprefix("### ").lower() for line in text.splitlines() if line.startswith("### ")}
    linked = {part.split(")")[0] for part in text.split("](#")[1:]}
    assert linked == headings


def test_schema_is_json_of_the_models():
    schema = json.loads(docs.schema_json())
    assert {key: value for key, value in schema.items() if key != "$schema"} == Config.model_json_schema()


def test_example_is_a_valid_experiment():
    merged = yaml.safe_load((docs.CONFIG_FOLDER / "config.yaml").read_text(encoding="utf-8"))
    known = deepcopy(merged)
    update_config(merged, yaml.safe_load(docs.EXAMPLE))
    config, example = parse_config(merged), yaml.safe_load(docs.EXAMPLE)
    [name] = example["methods"]
    assert set(config.methods) == {*known["methods"], name} and name not in known["methods"]
    assert config.run.methods == example["run"]["methods"]
    training, recipe = config.resolve(name, "emoji")
    written = example["methods"][name]
    assert training.model_dump() == training.model_dump() | {
        k: written[k] for k in ("train", "objective", "rates", "ema")
    }
    assert recipe == config.recipes["emoji"].model_copy(update=written["recipes"]["emoji"])


def test_needs_no_torch():
    code = "import sys; from surefoot.docs import *; config_markdown(), schema_json(); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=docs.ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
