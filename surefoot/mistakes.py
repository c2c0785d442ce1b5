"""What a mistake in a config reads like: one line with the key, and the nearest known name."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

NO_MAP = ("dict_type", "model_type")
MERGE = "tag:yaml.org,2002:merge"  # `<<`, which may stand twice


def suggestion(name: str, known: Iterable) -> str:
    """'; did you mean …' with the nearest known name, or the list of all."""
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"


def repeated_keys(path: Path) -> list[str]:
    """One line per key that stands twice in a map of a YAML file; readers of YAML keep the last and say nothing."""
    try:
        left = [yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)]
    except yaml.YAMLError:
        return []  # JSON with tabs, which Snakemake has read
    found, seen = [], set()
    while left:
        node = left.pop()
        if id(node) in seen:  # an anchor's
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                here, known = key.start_mark.line + 1, (key.tag, key.value)
                if known in lines and key.tag != MERGE:
                    found.append(f"{path}: {key.value!r} stands in lines {lines[known]} and {here}; keep one")
                lines[known] = here
                left.append(value)
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
    return sorted(found)


def messages(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line per mistake, or more where a check between the sections found several."""
    return [_message(item, model) for item in error.errors() if _meant(item)]


def _meant(item: Any) -> bool:
    """Whether an error is of the form of a value that the user wrote, where a name, a number or a map may stand."""
    branches = [str(part) for part in item["loc"] if _is_branch(part)]
    if not branches:
        return True
    if branches[0].startswith("literal["):
        return isinstance(item["input"], str)
    return not isinstance(item["input"], dict) if branches[0] == "float" else item["type"] not in NO_MAP


def _is_branch(part: str | int) -> bool:
    return part == "float" or str(part).startswith(("literal[", "dict[", "function-after["))


def _message(item: Any, model: type[BaseModel]) -> str:
    whole = [str(part) for part in item["loc"] if not _is_branch(part)]
    # pydantic puts the family into the place of a mistake in a task: tasks.<name>.<family>.<key>
    path = whole[:2] + whole[3:] if whole[:1] == ["tasks"] and len(whole) > 3 else whole
    key = ".".join(path).removesuffix(".[key]")
    if item["type"] == "extra_forbidden":
        return f"unknown key {key}{suggestion(path[-1], _fields_at(whole[:-1], model))}"
    if item["type"] == "union_tag_not_found":
        return f"missing key {key}.{item['ctx']['discriminator'].strip(chr(39))}"
    if item["type"] == "union_tag_invalid":
        field, known = (item["ctx"][name].replace("'", "") for name in ("discriminator", "expected_tags"))
        return f"{key}.{field}: unknown value {item['ctx']['tag']!r}{suggestion(item['ctx']['tag'], known.split(', '))}"
    if item["type"] == "missing":
        return f"missing key {key}"
    if item["type"] == "literal_error":
        allowed = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        name = path[-2] if path[-1] == "[key]" else item["input"]
        return f"{key}: unknown value {name!r}{suggestion(name, allowed)}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _fields_at(path: list[str], model: type[BaseModel]) -> list[str]:
    """The keys that the schema knows at a path."""
    schema = model.model_json_schema()
    node = schema
    for part in path:
        node = _resolve(schema, node)
        free = next(iter(node.get("patternProperties", {}).values()), None) or node.get("additionalProperties")
        tagged = {"$ref": ref} if (ref := node.get("discriminator", {}).get("mapping", {}).get(part)) else None
        inner = tagged or node.get("properties", {}).get(part) or free or node.get("items") or {}
        node = inner if isinstance(inner, dict) else {}
    return list(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for option in [node, *node.get("allOf", []), *node.get("anyOf", [])]:
        if "$ref" in option:
            return schema["$defs"][option["$ref"].rsplit("/", 1)[1]]
    return node
