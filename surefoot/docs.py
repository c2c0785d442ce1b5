"""Pages made from what is in the repository, so that they cannot differ from it.

config/README.md and config/schema.json come from the models in surefoot/config.py, docs/published.md from the numbers
in config/published. `python -m surefoot.docs --write` makes them; `--check` fails when they are out of date. No torch.
"""

import argparse
import ast
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from surefoot.config import Config, parse_config
from surefoot.data_page import data_page
from surefoot.experiments_page import experiments_page
from surefoot.published import load_published, published_files, published_markdown
from surefoot.story import besides, plain, trained

ROOT = Path(__file__).resolve().parent.parent
CONFIG_FOLDER = ROOT / "config"
REMAKE = "python -m surefoot.docs --write"

EXAMPLE = """\
experiment: gentle

run:
  methods: [zeroshot, ft, gentle]

methods:
  gentle:
    label: Gentle FT
    reference: An idea of mine
    base: lp # starts where the linear probe ends
    train: [image, head]
    objective: {ce: 1.0, lipsum: 0.5, l2init: 1000.0}
    rates: {first-blocks: 0.1} # a tenth of the learning rate
    ema: 0.98
    recipes:
      emoji: {epochs: 12} # in all else as the recipe says
"""

INTRO = f"""\
<!-- Made by `{REMAKE}`; edit the models behind surefoot/config.py, or surefoot/docs.py, instead. -->
# Configuration

`config.yaml` is the default run and is always read first. An **experiment** is a file that holds only what differs:

```bash
snakemake --cores all --configfile config/experiments/<name>.yaml
```

How an experiment is merged with `config.yaml`:

- **Maps merge**: `methods: {{mine: …}}` adds a method to the known ones; `recipes: {{emoji: {{epochs: 12}}}}` changes
  one key of one recipe.
- **Lists replace**: `run: {{methods: [ft]}}` runs `ft` only.
- `run` chooses what is run; `tasks`, `models`, `recipes` and `methods` say what is known and cost nothing by
  themselves.

Unknown keys and names are errors, which name the nearest known one. `snakemake -n` checks a config and lists
the jobs without running them. `schema.json`, beside this file, is the JSON schema of a *merged* config.

## A new method needs no code

A method is an entry: what is trained, from which start, on which weighted sum of terms, at which rates, what happens to
the weights, and where it differs from the recipe of a task. Save this as `config/experiments/gentle.yaml` and run it
with the command above:

```yaml
{EXAMPLE}```

Its numbers appear in every table and figure beside those of the other methods. A new loss is a function of a few lines
in `surefoot/objective.py`, and its name in `surefoot/method_entries.py`.

`snakemake --cores all tune` tries the settings under `grids` of every method of the run, the same number for each, and
writes `results/tables/tuning.md` with their values on validation images; what you take from it goes under `recipes`.
"""


def schema_json() -> str:
    """JSON schema of a merged config."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def config_markdown() -> str:
    """The reference: an introduction, what config.yaml knows, and a table of keys per section."""
    schema = Config.model_json_schema()
    sections = [_section(schema, name, places) for name, places in _places(schema).items()]
    known = _known(CONFIG_FOLDER / "config.yaml")
    return "\n".join([INTRO, known, TERMS, _terms(), "## Keys\n", _keys(schema, schema), *sections])


PUBLISHED = f"""\
<!-- Made by `{REMAKE}` from config/published/*.csv; edit those instead. -->
# Published numbers

What the papers, their code and others print, by source: the numbers that the table `comparison` sets beside ours.
[config/published/README.md](../config/published/README.md) says where they come from and what each column of the files
means. A table here is one table, task, model and metric of a source; brackets say how well its numbers are verified.

- Names are this project's (methods and models of `config/config.yaml`, test sets of its tasks) where there is one, else
  the source's. `id_test` of `imagenet` is the ImageNet validation set, of `domainnet` the test set of Real.
- Numbers of `imagenet` stand beside other tasks with its test sets too, those of trained models as roughly comparable
  (`comparison.shared` in experiments).
- `alpha` is empty for a model without ensembling; “not known”: ensembled with the zero-shot model at an alpha that the
  source does not name; “not stated”: not known whether ensembled.
- `~` read off a plot; `?` not verified; `*` only roughly comparable with a run of this project (the file says why).
- Percent, except nll (nats), ranks and what is named otherwise.

"""


def published_page() -> str:
    """docs/published.md."""
    return PUBLISHED + published_markdown(load_published(published_files()))


def _places(schema: dict[str, Any]) -> dict[str, list[str]]:
    """Section -> the places in a config where it stands, in reading order."""
    places: dict[str, list[str]] = {}

    def visit(node: dict[str, Any], path: str) -> None:
        if "$ref" in node:
            name = node["$ref"].rsplit("/", 1)[1]
            places.setdefault(name, []).append(path)
            visit(schema["$defs"][name], path)
        for key, inner in node.get("properties", {}).items():
            visit(inner, f"{path}.{key}" if path else key)
        if isinstance(values := _values(node), dict):
            visit(values, f"{path}.<name>")
        for inner in (node.get("items"), *node.get("anyOf", []), *node.get("oneOf", [])):
            if inner:
                visit(inner, f"{path}[]" if inner is node.get("items") else path)

    visit(schema, "")
    return places


def _values(node: dict[str, Any]) -> Any:
    """What the values of a map must be; None where the node is no map."""
    patterns = list(node.get("patternProperties", {}).values())
    return patterns[0] if patterns else node.get("additionalProperties") or None


def _section(schema: dict[str, Any], name: str, places: list[str]) -> str:
    node = schema["$defs"][name]
    where = ", ".join(f"`{place}`" for place in places)
    return f"### {name}\n\n{where}: {node['description']}\n\n{_keys(schema, node)}"


def _keys(schema: dict[str, Any], node: dict[str, Any]) -> str:
    rows = []
    for key, inner in node["properties"].items():
        target = schema["$defs"][inner["$ref"].rsplit("/", 1)[1]] if "$ref" in inner else {}
        default = "required" if key in node.get("required", []) else _default(inner["default"], target)
        rows.append([f"`{key}`", _kind(inner), default, inner.get("description") or target["description"]])
    return _table(["key", "value", "default", "what it is"], rows)


def _kind(node: dict[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if options := node.get("anyOf") or node.get("oneOf"):
        return " or ".join(map(_kind, options))
    if choices := node.get("enum", [node["const"]] if "const" in node else []):
        return ", ".join(f"`{choice}`" for choice in choices)
    kind = node.get("type")
    if kind == "array":
        few = f", at least {node['minItems']}" if "minItems" in node else ""
        items = _kind(node["items"]) if "items" in node else ", ".join(map(_kind, node["prefixItems"]))
        return f"list ({items}){few}"
    if kind == "object":
        keys = _kind(node["propertyNames"]) if "propertyNames" in node else "name"
        values = _values(node)
        return f"map ({keys}: {_kind(values)})" if isinstance(values, dict) else "map"
    if kind == "string":
        return "name" if "pattern" in node else "text"
    words = {"number": "number", "integer": "whole number", "boolean": "`true`, `false`", "null": "`null`"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {plain(node[bound])}" for bound, sign in bounds.items() if bound in node]
    return " ".join([words[kind], ", ".join(limits)]).strip()


def _default(value: Any, target: dict[str, Any]) -> str:
    """A default as it would be written in YAML; of a section only what differs from the section's own defaults."""
    if not target:
        return f"`{plain(value)}`"
    own = {key: inner.get("default") for key, inner in target["properties"].items()}
    changed = {key: value[key] for key in own if value[key] != own[key]}
    return f"`{plain(changed)}`" if changed else "see there"


def _known(path: Path) -> str:
    """What config.yaml knows by name, as tables."""
    config = parse_config(yaml.safe_load(path.read_text(encoding="utf-8")))
    methods = [
        [
            f"`{name}`",
            method.label,
            *trained(method).values(),
            "; ".join(besides(method, method)),
            method.reference,
        ]
        for name, method in config.methods.items()
    ]
    tasks = [
        [f"`{name}`", task.family, task.shift, f"`{task.recipe}`", task.metric] for name, task in config.tasks.items()
    ]
    models = [
        [
            f"`{name}`",
            f"files in `{m.folder}`" if m.folder else f"{m.architecture or m.tower}, {m.pretrained or 'random'}",
        ]
        for name, m in config.models.items()
    ]
    recipes = [
        [f"`{name}`", r.optimizer, plain(r.learning_rate), plain(r.weight_decay), str(r.batch_size), str(r.epochs)]
        for name, r in config.recipes.items()
    ]
    spaces = [
        [
            f"`{name}`",
            s.label,
            f"`{s.method}`",
            f"{s.sampler} on {s.eval_set}",
            ", ".join(key for key, d in s.dimensions.items() if not isinstance(d, float)),
        ]
        for name, s in config.spaces.items()
    ]
    recipe_heads = ["recipe", "optimizer", "learning rate", "weight decay", "batch size", "epochs"]
    return "\n".join(
        [
            "## Known by name\n",
            "What `config.yaml` defines; `run` chooses from it.\n",
            _table(["method", "label", "trains", "loss", "besides", "reference"], methods),
            _table(["task", "family", "shift", "recipe", "main metric"], tasks),
            _table(["model", "source"], models),
            _table(recipe_heads, recipes),
            _table(["search space", "label", "around", "search", "varies"], spaces),
        ]
    )


TERMS = """\
## Terms of an objective

B images a batch, C classes; theta are the trained weights, theta0 the same at the start, P their number; z logits, p =
softmax(z), s the logit scale. A loss is the sum of its terms, each times its weight.
"""


def _terms() -> str:
    """Every term and what it computes, by the docstrings of surefoot/objective.py, which would load torch."""
    parsed = ast.parse((ROOT / "surefoot/objective.py").read_text(encoding="utf-8")).body
    texts = {node.name: ast.get_docstring(node) for node in parsed if isinstance(node, ast.FunctionDef)}
    [terms] = [node.value for node in parsed if isinstance(node, ast.AnnAssign) and node.target.id == "TERMS"]
    rows = [
        [f"`{key.value}`", texts[value.id].split("\n\n")[0].replace("\n", " ")]
        for key, value in zip(terms.keys, terms.values, strict=True)
    ]
    return _table(["term", "what it is"], rows)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(prog="python -m surefoot.docs", description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="make the pages")
    what.add_argument("--check", action="store_true", help="fail when they are out of date")
    given = parser.parse_args()
    stale = []
    pages = {
        "config/README.md": config_markdown(),
        "config/schema.json": schema_json(),
        "docs/data.md": data_page(),
        "docs/experiments.md": experiments_page(),
        "docs/published.md": published_page(),
    }
    for name, text in pages.items():
        path = ROOT / name
        if given.write:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        sys.exit(f"{' and '.join(stale)} out of date; run `{REMAKE}`")


if __name__ == "__main__":
    main()
