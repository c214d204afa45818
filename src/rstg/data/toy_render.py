"""Scenes of toy-something to pixels: every object is drawn once, antialiased, and moved over its background by parts of
pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from rstg.data.toy_shapes import COLOURS, Thing
from rstg.data.toy_something import Scene, Template

# Objects are drawn larger and averaged.
_OVER = 4
# Around objects and background, for parts of pixels and the camera.
_EDGE = 8
_SHADOW = (25, 20, 18)
_NAMED, _PAPER, _INK, _GREY = 330, (250, 250, 248), (30, 30, 32), (120, 120, 125)


def render_scene(scene: Scene) -> UInt8[np.ndarray, "t h w 3"]:
    """The frames of a scene."""
    return np.stack([np.asarray(frame) for frame in draw_frames(scene, range(scene.frames))])


def draw_frames(scene: Scene, at: Iterable[int]) -> list[Image.Image]:
    """Frames of these numbers, as pictures."""
    height, width = scene.size
    background = _background(scene)
    # What stands nearer is drawn later.
    order = np.argsort(scene.tracks[:, 0, 1], kind="stable").tolist()
    sprites = {n: _sprite(scene.things[n], height) for n in order}
    shadows = {n: _shadow(scene.things[n], height) for n in order}
    frames = []
    for t in at:
        shift = scene.camera[t] * height
        frame = _moved(background, _EDGE - shift[0], _EDGE - shift[1], (width, height))
        for n in order:
            x, ground, lifted = scene.tracks[n, t]
            # A shadow that is far from its object is faint.
            faint = shadows[n].point(_times(round(100 / (1 + 2.5 * lifted))))
            _paste(
                frame, Image.new("RGB", faint.size, _SHADOW), faint, x * height + shift[0], ground * height + shift[1]
            )
        for n in order:
            x, ground, lifted = scene.tracks[n, t]
            middle = (ground - lifted) * height + _EDGE - sprites[n].height / 2
            _paste(frame, sprites[n], None, x * height + shift[0], middle + shift[1])
        frames.append(frame.point(_times(round(100 * scene.light[t])) * 3))
    return frames


@lru_cache(maxsize=256)
def _times(percent: int) -> list[int]:
    """A table of bytes for Image.point that multiplies by percents."""
    return [min(255, round(value * percent / 100)) for value in range(256)]


def _moved(image: Image.Image, x: float, y: float, size: tuple[int, int]) -> Image.Image:
    """The part of an image that begins at (x, y), in pixels and parts of them."""
    return image.transform(size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y), Image.Resampling.BILINEAR)


def _paste(frame: Image.Image, image: Image.Image, mask: Image.Image | None, x: float, y: float) -> None:
    """Draw an image with its middle at (x, y), under its mask or, if there is none, its own transparency."""
    left, top = x - image.width / 2, y - image.height / 2
    column, row = int(np.floor(left)), int(np.floor(top))
    if mask is None:
        image = mask = _moved(image, column - left, row - top, image.size)
    else:
        mask = _moved(mask, column - left, row - top, mask.size)
    frame.paste(image, (column, row), mask)


def _sprite(thing: Thing, pixels: int) -> Image.Image:
    """An object (RGBA), its foot _EDGE above the lower edge, its middle in the middle."""
    corners = thing.outline() * pixels
    half = int(np.ceil(corners[:, 0].max())) + _EDGE
    tall = int(np.ceil(corners[:, 1].max())) + 2 * _EDGE
    points = [((half + x) * _OVER, (tall - _EDGE - y) * _OVER) for x, y in corners]
    size = (2 * half * _OVER, tall * _OVER)
    inside, rim = Image.new("L", size), Image.new("L", size)
    ImageDraw.Draw(inside).polygon(points, 255)
    ImageDraw.Draw(rim).line([*points, *points[:2]], 255, round(_OVER * max(1.5, 0.02 * pixels)), "curve")
    edge = np.asarray(rim.reduce(_OVER), np.float32)[..., None] / 255
    y, x = np.mgrid[:tall, : 2 * half].astype(np.float32)
    across, up = (x - half + 0.5) / (thing.height * pixels), (tall - _EDGE - y - 0.5) / (thing.height * pixels)
    mixed = 0.7 * _pattern(thing, across, up)[..., None]
    colour, other = (np.array(COLOURS[name], np.float32) for name in (thing.colour, thing.other))
    lit = (1.0 - 0.25 * across + 0.2 * (up - 0.5))[..., None]
    shown = ((1 - mixed) * colour + mixed * other) * lit * (1 - 0.5 * edge)
    rgb = Image.fromarray(np.clip(shown, 0, 255).astype(np.uint8))
    rgb.putalpha(inside.reduce(_OVER))
    return rgb


def _pattern(thing: Thing, across: Float[np.ndarray, "h w"], up: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """How much of the second colour there is, 0 to 1."""
    turn = 2 * np.pi * thing.phase
    if thing.pattern == "plain":
        return np.zeros_like(across)
    if thing.pattern == "stripes":
        wave = np.sin(2 * np.pi * 3 * (np.cos(turn) * across + np.sin(turn) * up) + turn)
    elif thing.pattern == "rings":
        wave = np.sin(2 * np.pi * 3.5 * np.hypot(across, up - 0.45) + turn)
    else:
        a, b = (np.sin(2 * np.pi * 2.2 * (across + thing.phase)), np.sin(2 * np.pi * 2.2 * (up + thing.phase)))
        wave = a * b if thing.pattern == "checks" else a * b - 0.45
    return 0.5 + 0.5 * np.tanh(4 * wave)


@lru_cache(maxsize=256)
def _blob(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return Image.fromarray((150 * np.clip(1.15 * (1 - (x * x + y * y)), 0, 1) ** 0.8).astype(np.uint8))


def _shadow(thing: Thing, pixels: int) -> Image.Image:
    wide = round(2.5 * thing.half_width * pixels)
    blob = _blob(wide, max(4, round(0.22 * wide)))
    mask = Image.new("L", (blob.width + 4, blob.height + 4))
    mask.paste(blob, (2, 2))
    return mask


def _noise(rng: np.random.Generator, size: tuple[int, int], cells: Sequence[tuple[int, int]]) -> np.ndarray:
    """Smooth noise (h, w) about 0 of several sizes: how many cells down and across each has."""
    total = np.zeros(size, np.float32)
    for down, across in cells:
        coarse = Image.fromarray(rng.standard_normal((down, across)).astype(np.float32))
        total += np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC))
    return total


def _background(scene: Scene) -> Image.Image:
    """A table before a wall, larger than a frame by _EDGE on each side."""
    rng = np.random.default_rng(scene.backdrop)
    pixels = scene.size[0]
    size = (pixels + 2 * _EDGE, scene.size[1] + 2 * _EDGE)
    wall, table = (_tone(rng) for _ in range(2))
    rows = (np.arange(size[0], dtype=np.float32)[:, None] - _EDGE) / pixels
    plaster = 5 * _noise(rng, size, [(3, 4), (8, 12), (16, 24)])
    cells = [(int(rng.integers(10, 26)), 3), (32, 6)] if rng.random() < 0.6 else [(5, 7), (20, 32)]
    grain = 6 * _noise(rng, size, cells)
    below = np.clip((rows - scene.horizon) * pixels + 0.5, 0, 1)[..., None]
    upper = wall + plaster[..., None]
    # The table is brighter where it is nearer, and dark where it ends.
    near = (0.85 + 0.3 * (rows - scene.horizon)) * (1 - 0.35 * np.exp(-(((rows - scene.horizon) * 25) ** 2)))
    lower = (table + grain[..., None]) * near[..., None]
    return Image.fromarray(np.clip((1 - below) * upper + below * lower, 0, 255).astype(np.uint8))


def _tone(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """A pale colour, so that objects stand out."""
    grey = rng.uniform(95, 195)
    return (grey + rng.uniform(-22, 22, 3)).astype(np.float32)


def overview(rows: Sequence[tuple[Template, Scene]], frames: int = 8) -> Image.Image:
    """Every template as a row: its name, and frames evenly spread over one of its videos."""
    height = max(scene.size[0] for _, scene in rows)
    width = max(scene.size[1] for _, scene in rows)
    page = Image.new("RGB", (_NAMED + frames * (width + 4), len(rows) * (height + 6) + 6), _PAPER)
    draw, font, small = ImageDraw.Draw(page), ImageFont.load_default(14), ImageFont.load_default(12)
    for row, (template, scene) in enumerate(rows):
        top = 6 + row * (height + 6)
        lines = _wrapped(template.name, font, _NAMED - 16)
        for n, line in enumerate(lines):
            draw.text((8, top + 18 * n), line, _INK, font)
        named = " / ".join(thing.name for thing in scene.named)
        draw.text((8, top + 18 * len(lines) + 2), f"{template.group}: {named}", _GREY, small)
        at = np.linspace(0, scene.frames - 1, frames).round().astype(int).tolist()
        for column, frame in enumerate(draw_frames(scene, at)):
            page.paste(frame, (_NAMED + column * (width + 4), top))
    return page


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
