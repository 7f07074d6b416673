"""The lists of data sets as published: bytes to text, text to entries. All pure; a file's name tells its format."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mfcd_core.errors import UsageError
from mfcd_core.names import inner_path, label_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROLE_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validate", "validation"), "val"
)
HMDB51_ROLES = {"1": "train", "2": "test", "0": None}
UCF101_NAME = re.compile(r"(train|test)list([0-9]+)\.txt", re.IGNORECASE)
UCF101_LINE = re.compile(r"(.*\S)[ \t]+([0-9]+)")
HMDB51_NAME = re.compile(r"(.+)_test_split([0-9]+)\.txt", re.IGNORECASE)
KINETICS_COLUMNS = frozenset({"youtube_id", "time_start", "time_end"})
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
BLANKS = " \t\r\f"


class Listed(NamedTuple):
    """One entry of an official list or a CSV.

    path: as published, relative; the class as its folder where the list knows it.
    label: the class, else the first folder, or None.
    where: file and line, for messages. class_number: from 1, where the list of UCF101 has it.
    """

    split: str
    role: str
    path: str
    label: str | None
    where: str
    class_number: int | None = None


def decode_list(content: bytes) -> str:
    """The text of a list: UTF-8 or what a byte order mark says, else Windows-1252, else Latin-1, which fits any byte.

    Raises:
        UsageError: the bytes contradict their own byte order mark.
    """
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            encodings = [encoding]
            break
    else:
        encodings = ["utf-8", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UsageError(f"a list begins as {encodings[0]} and goes on otherwise: save it as UTF-8")


def iter_lines(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (where, line) of each line that is not blank, without its line end; `where` names file and line."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if line.strip(BLANKS):
            yield f"{name} line {number}", line.removesuffix("\r")


def iter_listed(name: str, text: str) -> Iterator[Listed]:
    """Yield the entries of one file as published; `name` is the file's name.

    Raises:
        UsageError: the name or a line fits no format, or an entry leaves SOURCE.
    """
    read = reader_of(name)
    if read is None:
        raise UsageError(
            f"{name} is not a split file: expected trainlistNN.txt, testlistNN.txt, *_test_splitN.txt or a .csv"
        )
    for listed in read(text):
        path = inner_path(listed.path, listed.where)
        yield listed._replace(path=path, label=listed.label or label_of(path))


def reader_of(name: str) -> Callable[[str], Iterator[Listed]] | None:
    """What reads the text of a file of this name: UCF101, HMDB51, Kinetics or another CSV; None if none of these."""
    if found := UCF101_NAME.fullmatch(name):
        return partial(_iter_ucf101, name, found[1].lower(), f"split{int(found[2])}")
    if found := HMDB51_NAME.fullmatch(name):
        return partial(_iter_hmdb51, name, found[1], f"split{int(found[2])}")
    return partial(_iter_csv, name) if name.lower().endswith(".csv") else None


def _iter_ucf101(name: str, role: str, split: str, text: str) -> Iterator[Listed]:
    for where, line in iter_lines(name, text):
        path, number = line.strip(BLANKS), None
        if found := UCF101_LINE.fullmatch(path):
            path, number = found[1], int(found[2])
        yield Listed(split, role, path, None, where, number)


def _iter_hmdb51(name: str, label: str, split: str, text: str) -> Iterator[Listed]:
    for where, line in iter_lines(name, text):
        file_name, _, code = line.strip(BLANKS).rpartition(" ")
        if not file_name or code not in HMDB51_ROLES:
            raise UsageError(f"{where} is {line!r}: expected `file.avi 1`, `file.avi 2` or `file.avi 0`")
        role = HMDB51_ROLES[code]
        if role is not None:
            yield Listed(split, role, f"{label}/{file_name.rstrip(BLANKS)}", label, where)


def _iter_csv(name: str, text: str) -> Iterator[Listed]:
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    try:
        columns = [column.strip().lower() for column in rows.fieldnames or ()]
        rows.fieldnames = columns
        split, path_of = _csv_format(name, frozenset(columns))
        for row in rows:
            where = f"{name} line {rows.line_num}"
            path = _path_from(path_of, row, where)
            yield Listed(split, _role_of(row, where), path, _cell(row, "label") or None, where)
    except csv.Error as error:
        raise UsageError(f"{name} line {rows.line_num} is no CSV ({error}): expected columns path,split") from None


def _csv_format(name: str, columns: frozenset[str]) -> tuple[str, Callable[[Mapping[str, str]], str]]:
    """The split that a CSV speaks of, and what gives the path of a row."""
    if columns >= KINETICS_COLUMNS:
        return "kinetics", _kinetics_path
    if columns >= {"path", "split"}:
        return os.path.splitext(name)[0], _plain_path  # noqa: PTH122, a name, not a file
    raise UsageError(f"{name} has columns {sorted(columns)}: expected path,split or those of Kinetics")


def _path_from(path_of: Callable[[Mapping[str, str]], str], row: Mapping[str, str], where: str) -> str:
    try:
        return path_of(row)
    except (ValueError, OverflowError):
        raise UsageError(f"{where} is {dict(row)}: expected a value in every column") from None


def _role_of(row: Mapping[str, str], where: str) -> str:
    word = _cell(row, "split").lower()
    if word not in ROLE_WORDS:
        raise UsageError(f"{where} has split {word!r}: expected one of {', '.join(ROLE_WORDS)}")
    return ROLE_WORDS[word]


def _cell(row: Mapping[str, str], column: str) -> str:
    return (row.get(column) or "").strip(BLANKS)


def _plain_path(row: Mapping[str, str]) -> str:
    if not (path := _cell(row, "path")):
        raise ValueError
    return path


def _kinetics_path(row: Mapping[str, str]) -> str:
    """The file's path as the usual downloaders name it; the lists of the test set carry no label."""
    start, end = (int(float(_cell(row, column))) for column in ("time_start", "time_end"))
    name, label = f"{_cell(row, 'youtube_id')}_{start:06d}_{end:06d}", _cell(row, "label")
    return f"{label}/{name}" if label else name
