"""Folders of empty files and lists beside them, for tests that never open a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcd_core.catalog import read_catalog

if TYPE_CHECKING:
    from pathlib import Path

    from mfcd_core.catalog import Catalog


def make_tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def read_listed(folder: Path, files: list[str], **lists: str | bytes) -> Catalog:
    """The catalog of these files through lists; the key `trainlist01_txt` stands for `trainlist01.txt`."""
    source = make_tree(folder / "source", *files)
    source.mkdir(exist_ok=True)
    paths = []
    for key, content in lists.items():
        paths.append(folder / ".".join(key.rsplit("_", 1)))
        paths[-1].write_bytes(content.encode() if isinstance(content, str) else content)
    return read_catalog(source, paths)


def labels(catalog: Catalog) -> dict[str, str | None]:
    return {video.path: video.label for video in catalog.videos}
