"""Catalog documents as people write them: YAML files, read strictly.

What YAML leaves open is closed here: a member written twice is a fault (the last one would win in silence), and
anchors are refused (they let a small file stand for a huge one).
"""

from pathlib import Path

import yaml

from shared.domain.catalog_document import Fault

FILE_LIMIT_BYTES = 1_048_576
NESTING_MAX = 20
MERGE_TAG = "tag:yaml.org,2002:merge"


def read_catalog_file(path: Path) -> object | Fault:
    """Return the plain values in `path`, or why they cannot be read."""
    try:
        size = path.stat().st_size
        if size > FILE_LIMIT_BYTES:
            return Fault(str(path), f"{size} bytes: a catalog has at most {FILE_LIMIT_BYTES}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        return Fault(str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return Fault(str(path), f"byte {error.start} is not UTF-8: save the file as UTF-8")
    return read_catalog_text(text, name=path.name)


def read_catalog_text(text: str, *, name: str) -> object | Fault:
    """Return the plain values in the YAML `text`, or why it cannot be read; `name` stands for the file."""
    try:
        document: object = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader, only stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
        return Fault(f"{name}{line}", f"{error.problem or 'not YAML'}")
    except (yaml.YAMLError, ValueError) as error:
        return Fault(name, f"not YAML: {str(error).splitlines()[0]}")
    return document


class _StrictLoader(yaml.SafeLoader):
    """Plain values only; each member once, no anchors, no deep nesting."""

    nesting = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call] # the stubs leave the parser untyped
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _marked("anchors are not allowed: write it out", event)
        if self.nesting >= NESTING_MAX:
            raise _marked("nested too deeply for a catalog", event)
        self.nesting += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.nesting -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002 - the parent's
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE_TAG:
                raise _marked("a member needs a plain name", key)
            if key.value in seen:
                raise _marked(f"member {key.value!r} stands twice", key)
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep=deep))


def _marked(problem: str, at: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    mark = at.start_mark
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark if isinstance(mark, yaml.Mark) else None)
