"""Pages that need no other file and no network, from the templates of this package."""

from __future__ import annotations

from importlib import resources
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import tomli_w
from jinja2 import Environment, FunctionLoader, StrictUndefined

from mfcd_core.atomic import replacing
from mfcd_train.metrics import points
from mfcd_train.pictures import data_uri, png_uri

if TYPE_CHECKING:
    from pathlib import Path


def write_page(out: Path, template: str, **values: Any) -> None:  # noqa: ANN401 - whatever the template needs
    """Write the page that a template makes of `values`; all of them are escaped."""
    page = _environment().get_template(template).render(mfcd_version=version("mfcd"), **values)
    with replacing(out) as part:
        part.write_bytes(page.encode("utf-8", "replace"))


def _environment() -> Environment:
    loader = FunctionLoader(lambda name: (resources.files("mfcd_train") / name).read_text(encoding="utf-8"))
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": lambda share: f"{share:.1%}",
        "points": points,
        "png": png_uri,
        "png_file": lambda content: data_uri("image/png", content),
        "toml": lambda recipe: tomli_w.dumps(recipe.to_dict()),
    }
    return environment
