"""Recipes as TOML files: those shipped, those that extend another, and keys set from the command line."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfcd_core.errors import UsageError
from mfcd_train.config import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable

EXTENDS = "extends"
"""The key that names the recipe whose keys hold where a file says nothing: a shipped one, or a file beside it."""


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Read a shipped recipe by name or a TOML file by path, then apply `section.key=value` overrides.

    Raises UsageError for an unknown recipe, key or value.
    """
    values = _read(name)
    for override in overrides:
        path, equals, text = override.partition("=")
        section, dot, entry = path.strip().partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {override!r}: expected section.key=value, such as optim.epochs=10")
        keys = values.setdefault(section, {})
        if isinstance(keys, dict):  # or else from_dict says what it is
            keys[entry] = _parse_value(text.strip())
    return Recipe.from_dict(values)


def shipped_recipes() -> dict[str, str]:
    """What each shipped recipe is for, by name: the first line of its file."""
    heads = {name: file.read_text(encoding="utf-8").partition("\n")[0] for name, file in _shipped().items()}
    return {name: head.removeprefix("# ") for name, head in heads.items()}


def _shipped() -> dict[str, Traversable]:
    files = (resources.files("mfcd_train") / "recipes").iterdir()
    return dict(sorted((f.name.removesuffix(".toml"), f) for f in files if f.name.endswith(".toml")))


def _read(name: str, extended_by: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a file over those that it extends."""
    if name in extended_by:
        raise UsageError(f"recipe {name!r} extends itself, by way of {' and '.join(extended_by)}")
    values = _read_one(name)
    base = values.pop(EXTENDS, None)
    if base is None:
        return values
    if not isinstance(base, str) or Path(base).name != base:
        raise UsageError(f"recipe {name!r} extends {base!r}: expected a shipped recipe, or a file beside it, by name")
    beside = base if base in _shipped() else str(Path(name).with_name(base))
    return _merged(_read(beside, (*extended_by, name)), values)


def _merged(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    both = {name for name in values if isinstance(values[name], dict) and isinstance(base.get(name), dict)}
    return base | values | {name: base[name] | values[name] for name in both}


def _read_one(name: str) -> dict[str, Any]:
    shipped = _shipped()
    try:
        return tomllib.loads(shipped.get(name, Path(name)).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"recipe {name!r}: expected a TOML file or one of {', '.join(shipped)}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"recipe {name!r} cannot be read: {error}") from None


def _parse_value(text: str) -> Any:  # noqa: ANN401
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
