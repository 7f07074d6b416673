"""A page on a whole GOP that needs no other file: every frame in rows of tiles, with figures and keys."""

from __future__ import annotations

import base64
from importlib import resources
from importlib.metadata import version
from io import BytesIO
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined
from PIL import Image

from mfcd_core.pictures import colour_wheel
from mfcd_prep.show import draw, figures_of, mean_figures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mfcd_prep.show import ShownGop

TEMPLATE = "show.html.j2"
WEBP_QUALITY = 90


def build_page(shown: ShownGop) -> str:
    """The page as HTML; pictures are data URIs, everything that was read is escaped."""
    figures, gop = figures_of(shown), shown.gop
    height, width = gop.motion.shape[2:]
    solved = shown.steps.solved
    return (
        _environment()
        .from_string((resources.files("mfcd_prep") / TEMPLATE).read_text(encoding="utf-8"))
        .render(
            shown=shown,
            gop=gop,
            size=(width, height),
            start=shown.gop_index * gop.gop_size,
            pictures=draw(shown, range(gop.gop_size)),
            wheel=colour_wheel(),
            figures=figures,
            mean=mean_figures(figures),
            solved_share=None if solved is None else float(solved.mean()),
            num_bytes_in_all=[sum(column) for column in zip(*shown.num_bytes.values(), strict=True)],
            mfcd_version=version("mfcd"),
        )
    )


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "uri": webp_uri,
        "percent": lambda share: f"{share:.1%}",
        "kib": lambda num_bytes: f"{num_bytes / 1024:,.1f}",
    }
    return environment


def webp_uri(picture: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3 or 4) as a WebP data URI."""
    file = BytesIO()
    Image.fromarray(picture).save(file, "webp", quality=WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
