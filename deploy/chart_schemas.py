"""Makes a chart's values.schema.json from its values.yaml: `python deploy/chart_schemas.py CHART...`.

What stands in values.yaml is all that there is: every key is described by the comment above it, and any other key is
refused. The type is that of the default; a line `@type: TYPE` of the comment says what a default cannot:

    none | certManager      one of these words; `string`, `integer` (from 0 on), `signed` (any integer), `number`,
    settings                `boolean` and `object` stand for any, for settings of the processes by their names without
    resources               the prefix, and for requests and limits of a container
    list of TYPE            a list
    map of TYPE             keys of the user's own
    each as defaults with X the same, where every value has the keys of `defaults`, X among them
    as defaults without X   has the keys of `defaults`, but X, besides its own
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from services.core.runtime.settings import KNOWN_KEYS, PREFIX

Schema = dict[str, Any]
DRAFT: Final = "http://json-schema.org/draft-07/schema#"
MARK: Final = "@type:"
ALTERNATIVES: Final = " | "
BASE: Final = "defaults"
QUANTITY: Final[Schema] = {"type": ["string", "number"]}
SIMPLE: Final[Mapping[str, Schema]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer", "minimum": 0},
    "number": {"type": "number", "minimum": 0},
    "signed": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "settings": {
        "type": "object",
        "propertyNames": {"enum": sorted(key.removeprefix(PREFIX) for key in KNOWN_KEYS)},
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    },
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {kind: {"type": "object", "additionalProperties": QUANTITY} for kind in ("requests", "limits")},
    },
}
TAGS: Final[Mapping[str, str]] = {
    "tag:yaml.org,2002:str": "string",
    "tag:yaml.org,2002:int": "integer",
    "tag:yaml.org,2002:float": "number",
    "tag:yaml.org,2002:bool": "boolean",
}


class UndescribedError(ValueError):
    """A key of values.yaml has no comment, or none that says its type."""


@dataclass(frozen=True, slots=True)
class Values:
    """The lines of a values.yaml, and the schema of its `defaults` once that is known."""

    lines: Sequence[str]
    base: Schema | None = None

    def comment(self, line: int) -> tuple[str, str]:
        """The text of the comment just above a line, and the type that it states."""
        above: list[str] = []
        while line > 0 and self.lines[line - 1].lstrip().startswith("#"):
            line -= 1
            above.insert(0, self.lines[line].strip().lstrip("#").strip())
        stated = [text.removeprefix(MARK).strip() for text in above if text.startswith(MARK)]
        text = " ".join(part.removeprefix("-- ") for part in above if not part.startswith(MARK))
        return text, stated[0] if stated else ""


def schema_of(values: str) -> Schema:
    """The schema of a values.yaml. Raises UndescribedError."""
    root = yaml.compose(values)
    assert isinstance(root, yaml.MappingNode)
    lines = values.splitlines()
    base = next((value for key, value in root.value if key.value == BASE), None)
    known = Values(lines, _closed(Values(lines), base, {}, BASE) if base else None)
    found = _closed(known, root, {}, "")
    # Helm adds an entry for the chart that this one is made of, and what all charts of an installation share is theirs.
    found["properties"]["common"] = {"type": "object", "description": "Nothing: the library that the chart uses."}
    found["properties"]["global"]["additionalProperties"] = True
    return {"$schema": DRAFT, **found}


def _closed(values: Values, node: yaml.MappingNode, inherited: Schema, path: str) -> Schema:
    """An object with just these keys, and those of `inherited`, which also describes the keys that both have."""
    properties = dict(inherited.get("properties", {}))
    for key, value in node.value:
        name = str(key.value)
        before = properties.get(name, {})
        properties[name] = _described(values, key.start_mark.line, value, before, f"{path}.{name}".strip("."))
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _described(values: Values, line: int, node: yaml.Node, inherited: Schema, path: str) -> Schema:
    text, stated = values.comment(line)
    if not text and not inherited:
        raise UndescribedError(f"{path} has no comment")
    described = {"description": text or inherited["description"]}
    if inherited and not stated and not _is_closed(inherited):
        return inherited | described
    return {**_typed(values, node, stated, inherited, path), **described}


def _typed(values: Values, node: yaml.Node, stated: str, inherited: Schema, path: str) -> Schema:
    if stated.startswith(f"each as {BASE}"):
        required = stated.partition(" with ")[2].split()
        return {"type": "object", "additionalProperties": {**(values.base or {}), "required": required}}
    if stated.startswith(f"as {BASE}"):
        base = _without(values.base or {}, stated.partition(" without ")[2].split())
        return _closed(values, _mapping(node), base, path)
    if stated:
        return parsed(stated)
    if isinstance(node, yaml.MappingNode) and node.value:
        return _closed(values, node, inherited, path)
    if isinstance(node, yaml.ScalarNode) and node.tag in TAGS:
        return dict(SIMPLE[TAGS[node.tag]])
    raise UndescribedError(f"{path}: its default does not say its type; state it by {MARK}")


def _without(schema: Schema, names: Sequence[str]) -> Schema:
    kept = {name: inner for name, inner in schema.get("properties", {}).items() if name not in names}
    return {**schema, "properties": kept}


def parsed(stated: str) -> Schema:
    """The schema of a stated type."""
    if stated.startswith("list of "):
        return {"type": "array", "items": parsed(stated.removeprefix("list of "))}
    if stated.startswith("map of "):
        return {"type": "object", "additionalProperties": parsed(stated.removeprefix("map of "))}
    words = stated.split(ALTERNATIVES)
    choices = [dict(SIMPLE[word]) for word in words if word in SIMPLE]
    constants = ["" if word == '""' else word for word in words if word not in SIMPLE]
    choices += [{"enum": constants}] if constants else []
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _is_closed(schema: Schema) -> bool:
    return schema.get("additionalProperties") is False


def _mapping(node: yaml.Node) -> yaml.MappingNode:
    assert isinstance(node, yaml.MappingNode)
    return node


def with_old_names(schema: Schema, old: Sequence[str]) -> Schema:
    """The schema, which lets old names of values in: the chart itself refuses them, and says what they are now."""
    for name in old:
        inside = schema
        *above, last = name.split(".")
        for key in above:
            inside = inside["properties"].setdefault(key, {"type": "object", "properties": {}})
        inside["properties"][last] = {"description": "Renamed; the chart says how."}
    return schema


def written(chart: Path) -> Iterator[tuple[Path, str]]:
    """The file of a chart, and what is to be in it."""
    schema, renamed = schema_of((chart / "values.yaml").read_text(encoding="utf-8")), chart / "renamed.yaml"
    if renamed.exists():
        schema = with_old_names(schema, [entry["old"] for entry in yaml.safe_load(renamed.read_text(encoding="utf-8"))])
    yield chart / "values.schema.json", json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        for path, content in written(Path(folder)):
            path.write_text(content, encoding="utf-8")
