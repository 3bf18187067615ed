"""Catalog files: YAML read strictly, every refusal with its place."""

from pathlib import Path

import pytest

from shared.catalog_file import read_catalog_file, read_catalog_text
from shared.domain.catalog_document import Fault


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2", "f.yaml:2:1: member 'a' stands twice"),
        ("p:\n  - {a: 1, a: 2}", "f.yaml:2:12: member 'a' stands twice"),
        ("a: &x [1]\nb: *x", "f.yaml:1:4: anchors are not allowed"),
        ("<<: {a: 1}", "f.yaml:1:1: a member needs a plain name"),
        ("? [1]\n: 2", "f.yaml:1:3: a member needs a plain name"),
        ("[" * 30 + "]" * 30, "nested too deeply"),
        ("a: [", "f.yaml:1:5: "),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("---\na\n---\nb", "f.yaml:3:1: "),
        ("a: 2021-13-45", "f.yaml: not YAML: month must be in 1..12"),
        ("\x00", "f.yaml: not YAML"),
    ],
)
def test_text_that_is_no_plain_document_is_told_with_its_place(text: str, told: str) -> None:
    outcome = read_catalog_text(text, name="f.yaml")
    assert isinstance(outcome, Fault)
    assert told in str(outcome)


def test_plain_document_is_read_as_its_values() -> None:
    assert read_catalog_text("products:\n  - {sku: A, period_months: 0}\n", name="f") == {
        "products": [{"sku": "A", "period_months": 0}]
    }


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    outcome = read_catalog_file(tmp_path / "absent.yaml")
    assert isinstance(outcome, Fault)
    assert "absent.yaml: cannot be read: No such file" in str(outcome)


def test_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: \xff")
    outcome = read_catalog_file(path)
    assert isinstance(outcome, Fault)
    assert "byte 3 is not UTF-8" in str(outcome)


def test_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"#" * 1_048_577)
    outcome = read_catalog_file(path)
    assert isinstance(outcome, Fault)
    assert "1048577 bytes" in str(outcome)
