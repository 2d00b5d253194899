"""From a template, data and figures to a PDF: PDF/A-3a and PDF/UA-1, the same bytes each time.

Fonts are those embedded in typst, the date is fixed, SVG figures stay vectors, and the records
behind the numbers travel inside the file.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typst

from core.errors import InputError
from core.outputs import check_writable, whole_file

TEMPLATES = Path(__file__).parent / "templates"
_EPOCH = 0  # the time of writing would make every run's bytes differ


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file to embed.

    Attributes:
        path: Where it lies.
        description: What it holds, for readers of the PDF.
        mime: Its media type.
        relationship: `source` of the document's text, or `data` behind its figures.
        name: What it is called in the PDF; by default as on disk.
    """

    path: Path
    description: str
    mime: str
    relationship: Literal["source", "data"] = "data"
    name: str = ""

    @property
    def shown_name(self) -> str:
        """What it is called in the PDF."""
        return self.name or self.path.name


def typeset(
    template: Path,
    data: Mapping[str, Any],
    figures: Mapping[str, bytes],
    output: Path,
    attachments: Sequence[Attachment] = (),
) -> Path:
    """Compiles a template and writes the PDF in one step; an existing file is never touched.

    Args:
        template: Typst file; it reads `data.json` and may import the files beside it.
        data: What `data.json` holds.
        figures: SVG by file name.
        output: PDF to create.
        attachments: Files to embed; `data.json` lists them under `attachments`.

    Raises:
        InputError: If `output` exists or cannot be created.
    """
    check_new_file(output)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(template.parent, folder, dirs_exist_ok=True)
        for figure, svg in figures.items():
            (folder / figure).write_bytes(svg)
        for attachment in attachments:
            shutil.copyfile(attachment.path, folder / attachment.shown_name)
        listed = [_listed(attachment) for attachment in attachments]
        document = json.dumps({**data, "attachments": listed}, ensure_ascii=False, default=str)
        (folder / "data.json").write_text(document, encoding="utf-8")
        pdf = _compile(folder / template.name)
    write_new_file(output, pdf)
    return output


def _listed(attachment: Attachment) -> dict[str, str]:
    return {
        "name": attachment.shown_name,
        "description": attachment.description,
        "mime": attachment.mime,
        "relationship": attachment.relationship,
    }


def _compile(template: Path) -> bytes:
    pdf = typst.compile(
        str(template),
        root=str(template.parent),
        ignore_system_fonts=True,
        pdf_standards=["a-3a", "ua-1"],
        timestamp=_EPOCH,
    )
    assert isinstance(pdf, bytes)
    return pdf


def check_new_file(output: Path) -> None:
    """Refuse a file that already exists or cannot be created.

    Raises:
        InputError: If `output` exists, or its nearest existing parent is not writable.
    """
    if os.path.lexists(output):
        raise InputError(
            f"'{output}' already exists and is never overwritten; a new file was expected: "
            "choose another --output or move the old one away"
        )
    check_writable(output)


def write_new_file(output: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    with whole_file(output, parents=True) as unfinished:
        unfinished.write_bytes(content)
        check_new_file(output)
