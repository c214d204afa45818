"""toy-something: small generated videos of objects that interact, of classes phrased as Something-Something's.

Video i of a split is a function of (seed, split, i), in any order and process. What it looks like and what its motion
depends on is drawn before its template is looked at, and is therefore independent of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from rstg.data import toy_motion as motion
from rstg.data.toy_shapes import COLOURS, PATTERNS, SHAPES, Thing, contact
from rstg.errors import check_choice, check_whole

SPLITS = ("train", "validation", "test")
GROUPS = ("order", "interaction", "static")


@dataclass(frozen=True)
class Template:
    """A class of videos.

    Args:
        name: As in Something-Something v2, with the objects in brackets.
        group: What tells it from the class that is most like it: `order`, that of its frames; `interaction`, which
            of two moves while they are apart, in touch or close; `static`, single frames.
        motion: What happens. objects: Those of the name, in its order: the small one (a), the large one (b), the one
            that acts (m) and the other (o). backwards: Whether the motion is played from its end.
    """

    name: str
    group: str
    motion: motion.Motion
    objects: str
    backwards: bool = False

    @property
    def plain(self) -> str:
        """The name without brackets, as in v1 and in the files of labels."""
        return self.name.replace("[", "").replace("]", "")


TEMPLATES = (
    Template("Pulling [something] from left to right", "order", motion.slide, "m"),
    Template("Pulling [something] from right to left", "order", motion.slide, "m", True),
    Template("Moving [something] and [something] closer to each other", "order", motion.closer, "ab"),
    Template("Moving [something] and [something] away from each other", "order", motion.closer, "ab", True),
    Template("Covering [something] with [something]", "order", motion.cover, "ab"),
    Template("Uncovering [something]", "order", motion.cover, "a", True),
    Template("Putting [something] next to [something]", "order", motion.put, "ab"),
    Template("Taking [something] away from next to [something]", "order", motion.put, "ab", True),
    Template("Pretending to put [something] next to [something]", "order", motion.pretend, "ab"),
    Template("Moving [something] behind [something]", "order", motion.hide, "ab"),
    Template("Taking [something] from behind [something]", "order", motion.hide, "ab", True),
    Template("Dropping [something] next to [something]", "order", motion.drop_beside, "ab"),
    Template("Throwing [something] up from next to [something]", "order", motion.drop_beside, "ab", True),
    Template("Moving [something] closer to [something]", "interaction", motion.one_closer, "mo"),
    Template("Moving [something] away from [something]", "interaction", motion.one_closer, "mo", True),
    Template("Pushing [something] with [something]", "interaction", motion.push, "om"),
    Template("Pulling [something] with [something] and letting it go", "interaction", motion.push, "om", True),
    Template("[Something] catching up with [something] and both come to a halt", "interaction", motion.halt, "mo"),
    Template("[Something] colliding with [something] and both being deflected", "interaction", motion.deflect, "mo"),
    Template("[Something] being deflected from [something]", "interaction", motion.bounce, "mo"),
    Template("Hitting [something] with [something] so that it moves away", "interaction", motion.knock, "om"),
    Template("[Something] passing behind [something]", "static", motion.pass_behind, "ab"),
    Template("[Something] passing in front of [something]", "static", motion.pass_before, "ab"),
    Template("Dropping [something] behind [something]", "static", motion.drop_behind, "ab"),
    Template("Dropping [something] in front of [something]", "static", motion.drop_before, "ab"),
)
# Motions whose single frames show the same distances; placed says how alike their places in the frame are.
LIKE = (
    (motion.closer, motion.one_closer),
    (motion.put, motion.pretend),
    (motion.push, motion.halt),
    (motion.deflect, motion.bounce, motion.knock),
)


def templates_of(groups: Sequence[str] = GROUPS) -> tuple[Template, ...]:
    """Templates of these groups.

    Raises:
        ValueError: for an unknown group, or none.
    """
    for group in groups:
        check_choice("group", group, GROUPS)
    if not groups:
        raise ValueError(f"groups is empty: give one or more of {', '.join(GROUPS)}")
    return tuple(template for template in TEMPLATES if template.group in groups)


def reverse_of(template: Template) -> Template | None:
    """The template whose videos are this one's backwards."""
    return next(
        (t for t in TEMPLATES if t.motion is template.motion and t.backwards != template.backwards),
        None,
    )


def motions_like(template: Template) -> tuple[motion.Motion, ...]:
    """Motions that single frames do not tell apart, the template's among them."""
    return next((motions for motions in LIKE if template.motion in motions), (template.motion,))


def like(template: Template) -> tuple[Template, ...]:
    """Templates that single frames do not tell from this one, its reverse among them."""
    same = motions_like(template)
    return tuple(t for t in TEMPLATES if t.motion in same and t is not template)


@dataclass(frozen=True)
class ToyConfig:
    """What videos there are.

    Args:
        seed: 0 or more. size: Height of the frames in pixels, even; widths are 1.6 to 1.8 times that.
        least, most: Frames of a video. groups: Of templates.

    Raises:
        ValueError: for values that are none of these.
    """

    seed: int = 0
    size: int = 96
    least: int = 24
    most: int = 48
    groups: tuple[str, ...] = GROUPS

    def __post_init__(self) -> None:
        check_whole("seed", self.seed, 0)
        check_whole("size", self.size, 32)
        check_whole("least", self.least, 16)
        check_whole("most", self.most, self.least)
        if self.size % 2:
            raise ValueError(f"size={self.size} is odd: videos of VP9 have even sides")
        templates_of(self.groups)

    @property
    def templates(self) -> tuple[Template, ...]:
        """The classes."""
        return templates_of(self.groups)


@dataclass(frozen=True)
class Scene:
    """What is seen in a video. Places are in heights of the frame, as toy_motion says.

    Args:
        template: Its class. size: Height and width of the frames in pixels. things: Its objects.
        named: Those that the template means, in its order. tracks: Where each of the objects is.
        camera: By how much all is moved. light: By which pixels are multiplied. horizon: The far edge of the table.
        backdrop: What table and wall are drawn from.
    """

    template: Template
    size: tuple[int, int]
    things: tuple[Thing, ...]
    named: tuple[Thing, ...]
    tracks: Float[np.ndarray, "things t 3"] = field(repr=False)
    camera: Float[np.ndarray, "t 2"] = field(repr=False)
    light: Float[np.ndarray, " t"] = field(repr=False)
    horizon: float
    backdrop: int

    @property
    def frames(self) -> int:
        """How many frames the video has."""
        return len(self.light)


def template_of(config: ToyConfig, split: str, index: int) -> Template:
    """The class of a video: as many of each, in an order of the seed's."""
    count = len(config.templates)
    block, place = divmod(index, count)
    order = np.random.default_rng([config.seed, SPLITS.index(split), block, 1]).permutation(count)
    return config.templates[order[place]]


def scene_of(config: ToyConfig, split: str, index: int) -> Scene:
    """Draw a video's scene.

    Args:
        split: train, validation or test. index: Of the video in its split, from 0.
    """
    check_choice("split", split, SPLITS)
    check_whole("index", index, 0)
    rng = np.random.default_rng([config.seed, SPLITS.index(split), index, 0])
    return draw_scene(template_of(config, split, index), rng, config)


def draw_scene(template: Template, rng: np.random.Generator, config: ToyConfig) -> Scene:
    """Draw a scene in which a template happens; from the same generator all templates draw the same."""
    frames = int(rng.integers(config.least, config.most + 1))
    width = 2 * round(config.size * rng.uniform(1.6, 1.8) / 2)
    things = _draw_things(rng)
    chance = motion.draw_chance(rng)
    horizon = rng.uniform(0.3, 0.42)
    far = np.stack([np.array([rng.uniform(0.05, width / config.size - 0.05), horizon + u, 0.0]) for u in _far(rng)])
    camera, light = _waves(rng, frames, 0.008, 2), 1 + _waves(rng, frames, 0.03, 1)[:, 0]
    backdrop = int(rng.integers(2**31))

    a, b, *others = things
    stage = motion.Stage(
        chance,
        frames,
        width / config.size,
        contact(a, b),
        contact(b, a),
        (a.height, b.height),
        (a.half_width, b.half_width),
    )
    tracks = motion.placed(stage, template.motion, motions_like(template))
    acting = {"a": a, "b": b, "m": a if chance.a_acts else b, "o": b if chance.a_acts else a}
    shown = [*others, *(acting[who] for who in tracks)]
    still = [np.broadcast_to(place, (frames, 3)) for place in far[: len(others)]]
    order = slice(None, None, -1 if template.backwards else 1)
    return Scene(
        template,
        (config.size, width),
        tuple(shown),
        tuple(acting[who] for who in template.objects),
        np.stack([*still, *tracks.values()])[:, order],
        camera[order],
        light[order],
        horizon,
        backdrop,
    )


def _far(rng: np.random.Generator) -> Float[np.ndarray, " 2"]:
    """How far below the horizon the objects stand that nothing happens to."""
    return rng.uniform(0.02, 0.12, 2)


def _draw_things(rng: np.random.Generator) -> list[Thing]:
    """A, B, and up to two small ones far away; no two of a colour."""
    count = 2 + int(rng.integers(0, 3))
    colours = rng.permutation(list(COLOURS))
    heights = [rng.uniform(0.18, 0.23), rng.uniform(0.34, 0.4), *rng.uniform(0.08, 0.12, 2)]
    drawn = [
        Thing(
            shape=SHAPES[rng.integers(len(SHAPES))],
            colour=str(colours[i]),
            other=str(colours[i + 4]),
            pattern=PATTERNS[rng.integers(len(PATTERNS))],
            height=float(heights[i]),
            tilt=float(rng.uniform(-0.12, 0.12)),
            phase=float(rng.random()),
        )
        for i in range(4)
    ]
    return drawn[:count]


def _waves(rng: np.random.Generator, frames: int, size: float, count: int) -> Float[np.ndarray, "t count"]:
    """Slow random motion about 0, that is the same backwards."""
    time = np.linspace(0, 1, frames)[:, None]
    waves = [
        np.sin(2 * np.pi * (rng.uniform(0.3, 3, count) * time + rng.random(count))) * rng.uniform(0, size, count)
        for _ in range(2)
    ]
    return np.add(*waves)
