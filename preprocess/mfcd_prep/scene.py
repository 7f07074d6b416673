"""Draws procedural videos: textured objects over a drifting textured background.

An object's state is a point on the unit torus, axes (x, y, log scale). Its start is uniform and knows nothing of the
motion that is added to it, so its state is uniform at every frame, whatever the motion: a single frame cannot tell the
motions apart. The seam of the torus is never seen: in x and y it lies beyond the picture by the object's radius, and
along the log scale an object fades out before it (as in a Shepard tone).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Floats = NDArray[np.float64]
Image = NDArray[np.float32]

SMALLEST_RADIUS, LARGEST_RADIUS = 0.1, 0.32  # of the picture's shorter side
LOG_SCALE_TURN = float(np.log(LARGEST_RADIUS / SMALLEST_RADIUS))  # once around the log scale axis
FADE = 0.2  # of the log scale axis, at each end
OUTLINE_REACH = 0.85  # of the radius; the rest is room for the soft edge
NUM_OBJECTS = (4, 5, 6)
FASTEST_DRIFT = 0.005  # of the picture's shorter side, a frame
NOISE_LEVELS = (1.0, 4.0)  # standard deviation


@dataclass(frozen=True, eq=False)
class Thing:
    """One textured object, before any motion."""

    pyramid: tuple[Image, ...]
    """(K, K, 4) and its halvings: R, G, B in levels, and the signed distance inside the outline in radii."""
    start: Floats
    """(3,) x, y and log scale on the unit torus, uniform."""


@dataclass(frozen=True, eq=False)
class Scene:
    """All that one video shows, before any motion."""

    width: int
    height: int
    background: Image
    """(height, width, 3) in levels; its opposite edges fit together."""
    drift_px: Floats
    """(2,) y and x displacement of the background a frame."""
    things: tuple[Thing, ...]
    """From the farthest to the nearest."""
    noise_levels: float
    """Standard deviation of the sensor noise."""

    @property
    def shorter_side(self) -> int:
        """The picture's shorter side in pixels."""
        return min(self.width, self.height)


def render(
    seed: int | Sequence[int],
    size: tuple[int, int],
    num_frames: int,
    draw_track: Callable[[np.random.Generator, int], Floats],
) -> NDArray[np.uint8]:
    """Draw the video of `seed`: the same scene whatever the motion, moved by `draw_track`.

    `size` is (width, height) in pixels. `draw_track` gives (num_frames, 3) displacements on the torus, once for each
    object. Returns (num_frames, height, width, 3) uint8 RGB.
    """
    scene_rng, track_rng, noise_rng = np.random.default_rng(seed).spawn(3)
    scene = draw_scene(scene_rng, *size)
    states = [thing.start + draw_track(track_rng, num_frames) for thing in scene.things]
    frames = np.empty((num_frames, scene.height, scene.width, 3), np.uint8)
    for t in range(num_frames):
        picture = _draw_background(scene, t)
        for thing, state in zip(scene.things, states, strict=True):
            _draw_thing(picture, scene, thing, state[t] % 1.0)
        frames[t] = _expose(picture, scene.noise_levels, noise_rng)
    return frames


def draw_scene(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Draw what a video shows: background, objects, drift, light and noise."""
    light = rng.uniform(0.75, 1.15), rng.uniform(-15.0, 20.0)
    direction = rng.normal(size=2)
    drift_px = direction / np.linalg.norm(direction) * rng.uniform(0.2, 1.0) * FASTEST_DRIFT * min(width, height)
    background = _draw_texture(rng, height, width, num_cells=3, vividness=0.4)
    return Scene(
        width=width,
        height=height,
        background=_light(background, *light),
        drift_px=drift_px,
        things=tuple(_draw_new_thing(rng, min(width, height), light) for _ in range(rng.choice(NUM_OBJECTS))),
        noise_levels=rng.uniform(*NOISE_LEVELS),
    )


def _draw_new_thing(rng: np.random.Generator, shorter_side: int, light: tuple[float, float]) -> Thing:
    """Draw one object at a uniform place on the torus; its texture is as fine as its largest picture needs."""
    side = 1 << int(2 * LARGEST_RADIUS * shorter_side * 0.75).bit_length()
    outline = _draw_outline(rng, side)[..., None]
    colour = _draw_texture(rng, side, side, num_cells=3, vividness=1.0)
    colour *= (outline * np.float32(3.0) + np.float32(0.35)).clip(0.35, 1.0)  # a dark rim
    texture = np.concatenate([_light(colour, *light), outline], axis=2)
    return Thing(pyramid=_build_pyramid(texture), start=rng.uniform(size=3))


def _draw_texture(rng: np.random.Generator, height: int, width: int, num_cells: int, vividness: float) -> Image:
    """Draw (height, width, 3) levels: smooth noise of four octaves through a random palette; the edges fit together."""
    noise = np.zeros((height, width), np.float32)
    for octave in range(4):
        cells = num_cells << octave
        lattice = rng.uniform(-1.0, 1.0, (cells, cells)).astype(np.float32)
        noise += _resample(lattice, _smooth_grid(height, cells), _smooth_grid(width, cells), "wrap") * 0.5**octave
    noise -= noise.min()
    noise /= noise.max()
    palette = _draw_palette(rng, vividness)
    return _interpolate(palette, noise.ravel() * np.float32(len(palette) - 1), 0, "clip").reshape(height, width, 3)


def _smooth_grid(length: int, cells: int) -> Floats:
    """Positions (length,) of pixels on a lattice of `cells`, slowed down at its points: value noise without creases."""
    whole, part = np.divmod(np.arange(length) * (cells / length), 1.0)
    return whole + part * part * (3.0 - 2.0 * part)


def _draw_palette(rng: np.random.Generator, vividness: float) -> Image:
    """Draw (4, 3) colours in levels, by turns dark and light: edges to follow; less vivid means nearer to mid-grey."""
    colours = rng.uniform(-128.0, 128.0, (4, 3))
    colours -= colours.mean(axis=1, keepdims=True)
    colours += np.array([-75.0, 75.0, -40.0, 95.0])[:, None] + rng.uniform(-25.0, 25.0, (4, 1))
    return (128.0 + vividness * colours).clip(0.0, 255.0).astype(np.float32)


def _light(image: Image, gain: float, offset: float) -> Image:
    """Expose levels: contrast `gain` around mid-grey, brightness `offset` in levels."""
    return (image - np.float32(128.0)) * np.float32(gain) + np.float32(128.0 + offset)


def _draw_outline(rng: np.random.Generator, side: int) -> Image:
    """Draw (side, side) signed distances in radii, positive inside an irregular blob of reach OUTLINE_REACH."""
    centres = (np.arange(side) + 0.5) * (2.0 / side) - 1.0
    y, x = np.meshgrid(centres, centres, indexing="ij")
    angle, lobes = np.arctan2(y, x)[..., None], np.arange(2, 6)
    heights = rng.uniform(0.0, 0.22, 4) / np.sqrt(lobes - 1)
    reach = 1.0 + (heights * np.cos(lobes * angle + rng.uniform(0.0, 2.0 * np.pi, 4))).sum(axis=2)
    distance: Floats = reach * (OUTLINE_REACH / reach.max()) - np.hypot(x, y)
    return distance.astype(np.float32)


def _build_pyramid(texture: Image) -> tuple[Image, ...]:
    """Halve (K, K, C) again and again, down to 8 texels, so that small objects do not shimmer."""
    levels = [texture]
    while len(levels[-1]) > 8:
        fine = levels[-1]
        pairs = fine[::2] + fine[1::2]
        levels.append((pairs[:, ::2] + pairs[:, 1::2]) * np.float32(0.25))
    return tuple(levels)


def _draw_background(scene: Scene, t: int) -> Image:
    """Draw (height, width, 3) levels of the background at frame `t`."""
    y_shift, x_shift = scene.drift_px * t
    return _resample(scene.background, np.arange(scene.height) - y_shift, np.arange(scene.width) - x_shift, "wrap")


def _draw_thing(picture: Image, scene: Scene, thing: Thing, state: Floats) -> None:
    """Paint one object in place, at `state` on the torus: only its bounding box is touched."""
    radius_px = radius_of(state[2]) * scene.shorter_side
    margin_px = OUTLINE_REACH * radius_px + 1.0
    x_centre, y_centre = (
        turn * (length + 2.0 * margin_px) - margin_px - 0.5
        for turn, length in zip(state[:2], (scene.width, scene.height), strict=True)
    )
    ys, xs = _span(y_centre, radius_px, scene.height), _span(x_centre, radius_px, scene.width)
    if not len(ys) or not len(xs):
        return
    sample = _sample_thing(thing.pyramid, (ys - y_centre) / radius_px, (xs - x_centre) / radius_px, radius_px)
    cover = (sample[..., 3:] * np.float32(radius_px) + np.float32(0.5)).clip(0.0, 1.0)
    cover *= np.float32(opacity_of(state[2]))
    box = picture[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    box += cover * (sample[..., :3] - box)


def radius_of(log_scale: float) -> float:
    """Radius of an object in shorter sides, from its place 0..1 on the log scale axis."""
    return SMALLEST_RADIUS * float(np.exp(log_scale * LOG_SCALE_TURN))


def opacity_of(log_scale: float) -> float:
    """Opacity 0..1 of an object: 0 at both ends of the log scale axis, where it jumps from one end to the other."""
    part = min(1.0, log_scale / FADE, (1.0 - log_scale) / FADE)
    return part * part * (3.0 - 2.0 * part)


def _span(centre: float, radius_px: float, length: int) -> NDArray[np.int64]:
    """Pixels of one axis that an object may touch, clipped to the picture."""
    start, stop = int(np.ceil(centre - radius_px)), int(np.floor(centre + radius_px)) + 1
    return np.arange(max(start, 0), min(stop, length))


def _sample_thing(pyramid: tuple[Image, ...], y: Floats, x: Floats, radius_px: float) -> Image:
    """Sample (len(y), len(x), 4) at places in radii, from the two pyramid levels around one texel a pixel."""
    depth = min(max(float(np.log2(len(pyramid[0]) / (2.0 * radius_px))), 0.0), len(pyramid) - 1.0)
    level, part = int(depth), np.float32(depth % 1.0)
    sample = _sample_level(pyramid[level], y, x)
    if part:
        sample += part * (_sample_level(pyramid[level + 1], y, x) - sample)
    return sample


def _sample_level(texture: Image, y: Floats, x: Floats) -> Image:
    half = len(texture) / 2.0
    return _resample(texture, (y + 1.0) * half - 0.5, (x + 1.0) * half - 0.5, "clip")


def _resample(image: Image, y: Floats, x: Floats, edge: Literal["clip", "wrap"]) -> Image:
    """Sample (H, W, ...) bilinearly on the grid of rows `y` and columns `x`, in texels."""
    return _interpolate(_interpolate(image, y, 0, edge), x, 1, edge)


def _interpolate(image: Image, places: NDArray[np.floating], axis: int, edge: Literal["clip", "wrap"]) -> Image:
    """Sample one axis linearly at `places`, in texels."""
    low = np.floor(places)
    part = (places - low).astype(np.float32).reshape((-1,) + (1,) * (image.ndim - 1 - axis))
    low_index = low.astype(np.int64)
    sample: Image = image.take(low_index, axis, mode=edge)
    sample += part * (image.take(low_index + 1, axis, mode=edge) - sample)
    return sample


def _expose(picture: Image, noise_levels: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add sensor noise, alike in the three channels, and round (H, W, 3) levels to uint8."""
    picture += rng.standard_normal((*picture.shape[:2], 1), np.float32) * np.float32(noise_levels)
    np.rint(picture, out=picture)
    return picture.clip(0.0, 255.0, out=picture).astype(np.uint8)
