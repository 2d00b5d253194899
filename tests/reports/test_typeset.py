"""Tests for reports/typeset.py."""

from pathlib import Path

import pytest

from core.errors import InputError
from reports.typeset import Attachment, typeset

TEMPLATE = """
#let data = json("data.json")
#set document(title: data.title)
#set text(lang: "en")
#title()
#for file in data.attachments [#pdf.attach(file.name, description: file.description,
  mime-type: file.mime, relationship: file.relationship)]
"""


def template(folder: Path) -> Path:
    (folder / "templates").mkdir()
    path = folder / "templates" / "page.typ"
    path.write_text(TEMPLATE)
    return path


def test_same_input_same_bytes(tmp_path: Path) -> None:
    page, note = template(tmp_path), tmp_path / "note.txt"
    note.write_text("a note")
    attached = [Attachment(path=note, description="a note", mime="text/plain")]
    first = typeset(page, {"title": "T"}, {}, tmp_path / "1.pdf", attached)
    second = typeset(page, {"title": "T"}, {}, tmp_path / "2.pdf", attached)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"%PDF-1.7")


def test_an_existing_file_stays_as_it_is(tmp_path: Path) -> None:
    output = tmp_path / "old.pdf"
    output.write_text("precious")
    with pytest.raises(InputError, match="already exists and is never overwritten"):
        typeset(template(tmp_path), {"title": "T"}, {}, output)
    assert output.read_text() == "precious"


def test_a_file_cannot_lie_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        typeset(template(tmp_path), {"title": "T"}, {}, tmp_path / "file" / "new.pdf")


def test_a_broken_template_leaves_nothing_behind(tmp_path: Path) -> None:
    page = template(tmp_path)
    page.write_text("#undefined")
    with pytest.raises(RuntimeError, match="undefined"):
        typeset(page, {}, {}, tmp_path / "out" / "new.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["templates"]
