"""How the objects of toy-something move: one function of numbers a motion, which templates play forwards or backwards.

Places are in heights of the frame: x from the left edge, ground is the row an object stands on (from the top), height
what it is lifted above it. Two objects act: A, the smaller, and B. Motions are written for one direction and mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Track = Float[np.ndarray, "t 3"]  # x, ground, height

# Rows in front of and behind the one on which two objects meet.
_FRONT, _BACK = 0.05, -0.05
# Of gravity, in heights of the frame a frame and frame: a fall over half a frame takes 8 to 11 frames.
_GRAVITY = (0.009, 0.016)


@dataclass(frozen=True)
class Chance:
    """What is drawn for a video, the same whatever its template; distances are in heights of the frame.

    Args:
        side: 1 as written, -1 mirrored. a_acts: Whether A acts where either could.
        before, after: Shares of the frames without motion at the start and the end. ease: 0 steady speed, 1 soft.
        share: Of a common motion, who acts does. ahead: Speed of what flees, of that at which it is caught.
        far, near: Between objects that are apart and close. approach, travel: Before and after a contact.
        hit: The contact's time. aside, lift: Where what comes through the air comes from. gravity: Of falls.
        row: The ground. place: Where in the room that the motion leaves it happens.
    """

    side: int
    a_acts: bool
    before: float
    after: float
    ease: float
    share: float
    ahead: float
    far: float
    near: float
    approach: float
    travel: float
    hit: float
    aside: float
    lift: float
    gravity: float
    row: float
    place: float


def draw_chance(rng: np.random.Generator) -> Chance:
    """Draw what a video's motion depends on."""
    u = rng.uniform
    return Chance(
        side=int(rng.choice([-1, 1])),
        a_acts=bool(rng.random() < 0.5),
        before=u(0.04, 0.2),
        after=u(0.04, 0.2),
        ease=u(0.2, 0.9),
        share=u(0.4, 0.6),
        ahead=u(0.5, 0.7),
        far=u(0.3, 0.45),
        near=u(0.01, 0.06),
        approach=u(0.2, 0.3),
        travel=u(0.2, 0.3),
        hit=u(0.4, 0.6),
        aside=u(0.1, 0.4),
        lift=u(0.95, 1.1),
        gravity=u(*_GRAVITY),
        row=u(0.74, 0.86),
        place=u(0.0, 1.0),
    )


@dataclass(frozen=True)
class Stage:
    """Where a motion takes place.

    Args:
        chance: What was drawn. frames: Of the video. aspect: Width of a frame by its height.
        touch: Between the places of A and B, A on the left, when they touch. touched: With A on the right.
        heights: Of A and B. halves: Of their widths.
    """

    chance: Chance
    frames: int
    aspect: float
    touch: float
    touched: float
    heights: tuple[float, float]
    halves: tuple[float, float]

    def contact(self, a_first: bool) -> float:
        """Between the places of two objects that touch, where A comes first in the motion's direction."""
        return self.touch if a_first == (self.chance.side > 0) else self.touched

    def passed(self) -> Float[np.ndarray, " t"]:
        """How much of the motion has passed, in frames of constant speed: 0 before it, 1 after it."""
        time = np.linspace(0.0, 1.0, self.frames)
        chance = self.chance
        return np.clip((time - chance.before) / (1 - chance.before - chance.after), 0.0, 1.0)

    def eased(self) -> Float[np.ndarray, " t"]:
        """The same with a soft start and end; backwards it is what it is forwards."""
        return ease(self.passed(), self.chance.ease)


def ease(passed: Float[np.ndarray, " t"], softness: float) -> Float[np.ndarray, " t"]:
    """Between steady speed (softness 0) and one that rises from 0 and falls to 0 (1)."""
    return (1 - softness) * passed + softness * passed * passed * (3 - 2 * passed)


def _track(stage: Stage, x: object, row: float = 0.0, height: object = 0.0) -> Track:
    """x is measured along the motion's direction."""
    parts = np.broadcast_arrays(np.zeros(stage.frames), np.asarray(x), np.asarray(height))
    return np.stack([stage.chance.side * parts[1], parts[0] + stage.chance.row + row, parts[2]], 1)


Tracks = dict[str, Track]
Motion = Callable[[Stage], Tracks]


def _pair(stage: Stage, a_first: bool, first: object, second: object) -> Tracks:
    """Tracks of two on one row, of which `first` comes before `second` in the motion's direction."""
    a, b = (first, second) if a_first else (second, first)
    return {"a": _track(stage, a), "b": _track(stage, b)}


def slide(stage: Stage) -> Tracks:
    """One object over the picture, from left to right."""
    who = "a" if stage.chance.a_acts else "b"
    x = 2 * stage.chance.far * stage.eased()
    track = _track(stage, x)
    track[:, 0] = x
    return {who: track}


def _closing(stage: Stage) -> tuple[float, Float[np.ndarray, " t"], float]:
    """Contact, what is between two that come closer, and what that is at first."""
    far = stage.chance.near + stage.chance.far
    gap = far + (stage.chance.near - far) * stage.eased()
    return stage.contact(stage.chance.a_acts), gap, far


def closer(stage: Stage) -> Tracks:
    """Both come closer to each other."""
    contact, gap, far = _closing(stage)
    left = stage.chance.share * (far - gap)
    return _pair(stage, stage.chance.a_acts, left, left + contact + gap)


def one_closer(stage: Stage) -> Tracks:
    """As `closer`, and all of it is one's motion."""
    contact, gap, far = _closing(stage)
    left = far - gap
    return _pair(stage, stage.chance.a_acts, left, left + contact + gap)


def _catching(stage: Stage) -> tuple[float, Float[np.ndarray, " t"], Float[np.ndarray, " t"], float]:
    """Contact, what is between two until they touch, how far they go in touch, and what was between them at first."""
    at_first = stage.chance.approach
    way = (at_first + stage.chance.travel) * stage.eased()
    return stage.contact(stage.chance.a_acts), np.maximum(at_first - way, 0), np.maximum(way - at_first, 0), at_first


def push(stage: Stage) -> Tracks:
    """One comes up to the other, and from the contact on both move."""
    contact, gap, after, _ = _catching(stage)
    return _pair(stage, stage.chance.a_acts, after - gap - contact, after)


def halt(stage: Stage) -> Tracks:
    """As `push` seen from either, but what is caught moves until the contact, and nothing after it."""
    contact, gap, _, at_first = _catching(stage)
    fled = stage.chance.ahead * (at_first - gap)
    return _pair(stage, stage.chance.a_acts, fled - gap - contact, fled)


def _bouncing(stage: Stage) -> tuple[float, Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Contact, and the ways before and after it: what was between two is closed, and opens again with friction."""
    passed, chance = stage.passed(), stage.chance
    before = np.clip(passed / chance.hit, 0, 1)
    after = np.clip((passed - chance.hit) / (1 - chance.hit), 0, 1)
    return (
        stage.contact(chance.a_acts),
        chance.approach * (1 - before),
        chance.travel * (after * (2 - after)),
    )


def deflect(stage: Stage) -> Tracks:
    """Both come, touch and go back."""
    contact, closing, opening = _bouncing(stage)
    left = -stage.chance.share * (closing + opening)
    return _pair(stage, stage.chance.a_acts, left, left + contact + closing + opening)


def bounce(stage: Stage) -> Tracks:
    """As `deflect`, and all of it is one's motion: the other stays."""
    contact, closing, opening = _bouncing(stage)
    return _pair(stage, stage.chance.a_acts, -closing - opening, contact)


def knock(stage: Stage) -> Tracks:
    """As `deflect`, but one comes and stays at the contact, and the other goes."""
    contact, closing, opening = _bouncing(stage)
    return _pair(stage, stage.chance.a_acts, -closing, contact + opening)


def _beside(stage: Stage) -> float:
    """Place of A beside B, which stands at 0, on the side that it comes from."""
    return -stage.contact(True) - stage.chance.near


def _carried(stage: Stage, rest: float, away: Float[np.ndarray, " t"], row: float = 0.0) -> Track:
    """The way of something that is carried to `rest` from beyond the frame's upper edge, where `away` is 1."""
    # What is lifted first and moved aside later does not sweep through what it stands beside.
    return _track(stage, rest - stage.chance.aside * away**1.5, row, stage.chance.lift * away)


def put(stage: Stage) -> Tracks:
    """A is carried to beside B."""
    return {"a": _carried(stage, _beside(stage), 1 - stage.eased()), "b": _track(stage, 0)}


def pretend(stage: Stage) -> Tracks:
    """A is carried to beside B and away again; it is in no place for longer or shorter than in `put`."""
    away = 1 - stage.eased()
    order = np.argsort(-away, kind="stable")
    there = np.concatenate([order[::2], order[1::2][::-1]])
    return {"a": _carried(stage, _beside(stage), away[there]), "b": _track(stage, 0)}


def cover(stage: Stage) -> Tracks:
    """B is carried to the front of A, and hides it."""
    return {"a": _track(stage, 0), "b": _carried(stage, 0.0, 1 - stage.eased(), _FRONT)}


def hide(stage: Stage) -> Tracks:
    """A goes behind B."""
    begin = _beside(stage) - stage.chance.approach
    return {"a": _track(stage, begin * (1 - stage.eased()), _BACK), "b": _track(stage, 0)}


def _dropped(stage: Stage, x: float, row: float) -> Tracks:
    """A hangs in the air, falls with gravity, and lies."""
    chance = stage.chance
    top = min(chance.row, 0.98) - stage.heights[0] - 0.03
    since = np.maximum(np.arange(stage.frames) - (chance.before + 0.1) * stage.frames, 0)
    height = np.maximum(top - 0.5 * chance.gravity * since**2, 0)
    return {"a": _track(stage, x, row, height), "b": _track(stage, 0)}


def drop_beside(stage: Stage) -> Tracks:
    """A falls to beside B."""
    return _dropped(stage, _beside(stage), 0.0)


def drop_behind(stage: Stage) -> Tracks:
    """A falls to behind B."""
    return _dropped(stage, 0.0, _BACK)


def drop_before(stage: Stage) -> Tracks:
    """A falls to the front of B."""
    return _dropped(stage, 0.0, _FRONT)


def _passing(stage: Stage, row: float) -> Tracks:
    ends = stage.contact(True) + 0.08
    return {"a": _track(stage, ends * (2 * stage.eased() - 1), row), "b": _track(stage, 0)}


def pass_behind(stage: Stage) -> Tracks:
    """A goes from one side of B to the other, behind it."""
    return _passing(stage, _BACK)


def pass_before(stage: Stage) -> Tracks:
    """A goes from one side of B to the other, in front of it."""
    return _passing(stage, _FRONT)


def placed(stage: Stage, motion: Motion, like: Sequence[Motion]) -> Tracks:
    """The tracks of a motion moved into the frame, to where all of the motions that are like it would be seen whole.

    Where two are in the frame must not tell who moves. Motions that are like each other are therefore placed by the
    mean of their tracks, which chance puts at the same place for all of them.
    """
    halves = dict(zip("ab", stage.halves, strict=True))
    tracks = {each: each(stage) for each in like}
    middles, lows, highs = {}, [], []
    for each, found in tracks.items():
        middles[each] = float(np.mean([track[:, 0] for track in found.values()]))
        lows.append(min(float(track[:, 0].min()) - halves[who] for who, track in found.items()) - middles[each])
        highs.append(max(float(track[:, 0].max()) + halves[who] for who, track in found.items()) - middles[each])
    least, most = 0.02 - min(lows), stage.aspect - 0.02 - max(highs)
    middle = least + (most - least) * (stage.chance.place if most > least else 0.5)
    return {who: track + np.array([middle - middles[motion], 0, 0]) for who, track in tracks[motion].items()}
