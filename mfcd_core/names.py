"""What a video may be called: its path in SOURCE, its id, its label, and when two names are one. All pure."""

from __future__ import annotations

import os
import re
import unicodedata

from mfcd_core.errors import UsageError

# fmt: off
VIDEO_EXTENSIONS = frozenset((
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".h264", ".hevc", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv",
))
# fmt: on
OWN_FOLDER = ".mfcd"
MAX_NAME_BYTES = 230  # file systems take 255; an output adds `.mp4` and, while unfinished, a dot, 8 digits and `.part`
EXTENSION = re.compile(r"\.(?=\w*[A-Za-z])\w{1,8}", re.ASCII)


def id_of(path: str) -> str:
    """The id of a video: its path relative to SOURCE, without extension."""
    return os.path.splitext(path)[0]  # noqa: PTH122, a Path would forget `./` and doubled slashes of other systems


def label_of(path: str) -> str | None:
    """The class that a tree `class/video.*` gives: the first folder, or None for a file directly in SOURCE."""
    folder, slash, _ = path.partition("/")
    return folder if slash else None


def why_unusable(path: str) -> str | None:
    """Why no video of this path can have an id and an output, or None where it can."""
    try:
        name = id_of(path).rpartition("/")[2].encode("utf-8")
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "name is not UTF-8"
    return f"name longer than {MAX_NAME_BYTES} bytes" if len(name) > MAX_NAME_BYTES else None


def why_no_video(name: str) -> str | None:
    """Why a file of this name is not taken for a video, or None where it is."""
    if name.startswith("."):
        return "hidden"
    extension = os.path.splitext(name)[1]  # noqa: PTH122, a name, not a file
    if extension.lower() in VIDEO_EXTENSIONS:
        return None
    return f"extension {extension}" if EXTENSION.fullmatch(extension) else "no extension"


def without_video_extension(path: str) -> str:
    """The path without an extension of video files; `v1.5` keeps its dot."""
    stem, extension = os.path.splitext(path)  # noqa: PTH122, as published
    return stem if extension.lower() in VIDEO_EXTENSIONS else path


def composed(name: str) -> str:
    """The name in Unicode normal form C: two names that are equal here look the same to everybody."""
    return unicodedata.normalize("NFC", name)


def blanks_joined(name: str) -> str:
    """The composed name with underscores for blanks: Kinetics is stored with either."""
    return composed(name).replace(" ", "_")


def folded(name: str) -> str:
    """The composed name in small letters: two names equal here are one file where case or normal form do not count."""
    return composed(composed(name).lower())


def spelled_alike(name: str) -> str:
    """What is left of a name when case, normal form and the kind of blank do not count."""
    return folded(name).replace(" ", "_")


def inner_path(path: str, where: str) -> str:
    """The path without `./` and doubled slashes. Raises UsageError, naming `where`, if it leaves SOURCE."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/") or ".." in parts or parts[:1] == [OWN_FOLDER] or "\0" in path:
        raise UsageError(f"{where} names {path!r}: expected a path relative to the source folder, without `..`")
    return "/".join(parts)
