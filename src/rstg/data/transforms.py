"""Frames of a clip, resized, cropped and varied: every frame of a clip in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from rstg.data.sampling import View, ViewScheme
from rstg.errors import nearest

Clip = UInt8[Tensor, "t 3 h w"]


def resize_short_side(clip: Clip, size: int = 256) -> Clip:
    """Resize frames by bicubic interpolation so that their shorter side has `size` pixels.

    Smaller frames are enlarged with the kernel that OpenCV uses (a = -0.75), larger ones are filtered before, so that
    what is finer than a pixel does not alias.
    """
    if min(clip.shape[-2:]) == size:
        return clip
    height, width = clip.shape[-2:]
    return resize(clip, *_resized(height, width, size))


def resize(clip: Clip, height: int, width: int) -> Clip:
    """Resize frames as resize_short_side does, to any height and width."""
    smaller = min(height, width) < min(clip.shape[-2:])
    # On bytes, which rounds after each axis: within 1.2 of the exact value, without bias, 20 times as fast.
    return torch.nn.functional.interpolate(clip, (height, width), mode="bicubic", antialias=smaller)


def _resized(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width with the shorter one `size`; the longer one is truncated where the released code does so."""
    ratio = width / height
    return (int(size / ratio), size) if width < height else (size, int(ratio * size))


def resize_square(clip: Clip, size: int = 256) -> Clip:
    """Resize frames, interpolated as by resize_short_side, to squares that show all of them, narrowed or widened."""
    if clip.shape[-2:] == (size, size):
        return clip
    # Each axis by itself: one may be enlarged and the other made smaller.
    for axis, side in ((-2, clip.shape[-2]), (-1, clip.shape[-1])):
        shape = (size, clip.shape[-1]) if axis == -2 else (clip.shape[-2], size)
        clip = torch.nn.functional.interpolate(clip, shape, mode="bicubic", antialias=side > size)
    return clip


def crop(clip: Clip, top: int, left: int, size: int) -> Clip:
    """A square of the frames; ValueError where it leaves them."""
    height, width = clip.shape[-2:]
    if min(top, left) < 0 or top + size > height or left + size > width:
        raise ValueError(f"a crop of {size}x{size} at ({top}, {left}) leaves frames of {width}x{height}")
    return clip[..., top : top + size, left : left + size]


def resize_for(clip: Clip, scheme: ViewScheme) -> Clip:
    """Frames as the crops of a scheme are cut from."""
    return (resize_square if scheme.square else resize_short_side)(clip, scheme.short_side)


def view_clip(clip: Clip, scheme: ViewScheme, view: View) -> Clip:
    """What a view shows of the frames that it sampled: resized, and its crop."""
    resized = resize_for(clip, scheme)
    top, left = scheme.corner(view, *resized.shape[-2:])
    return crop(resized, top, left, scheme.size)


def _swapped(name: str) -> str:
    other = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return re.sub(r"\b([Ll]eft|[Rr]ight)\b", lambda word: other[word[0]], name)


def flip_labels(names: Sequence[str], swaps: Mapping[str, str] | None = None) -> list[int]:
    """The class that each class becomes when its video is mirrored.

    "Pulling something from left to right" becomes "Pulling something from right to left", in the templates of
    Something-Something v1 and v2 alike: classes whose names hold the words left or right change places with the class
    that has the other word.

    Args:
        names: Of the classes, in the order of their numbers.
        swaps: Pairs of names that change places, where their names do not tell; {name: name} keeps a class.

    Raises:
        ValueError: for a class with left or right in its name that has no counterpart, or an unknown name in swaps.
    """
    given = dict(swaps or {})
    for pair in list(given.items()):
        for name in pair:
            if name not in names:
                raise ValueError(f"swaps: there is no class {name!r}{nearest(name, names)}")
        if given.setdefault(pair[1], pair[0]) != pair[0]:
            raise ValueError(f"swaps: {pair[1]!r} changes places with two classes")
    number = {name: index for index, name in enumerate(names)}
    table = []
    for name in names:
        other = given.get(name, _swapped(name))
        if other not in number:
            raise ValueError(
                f"mirrored, a video of {name!r} shows {other!r}, which is no class: leave flips out, or name its "
                f"counterpart in swaps"
            )
        table.append(number[other])
    return table


@dataclass(frozen=True)
class TrainTransform:
    """A clip for training: resized, cropped at random, its brightness changed; the same for all its frames.

    Args:
        short_side: To which frames are resized. size: Side of the crop. square: As in ViewScheme.
        brightness: The most that is added to or taken from all pixels, as a share of the range from black to white.
        flip: How often clips are mirrored, 0 to 1; needs `flipped`.
        flipped: The class that each becomes when mirrored, from flip_labels.
        extra: A transform of clips (T, 3, size, size) uint8 that comes last, as those of torchvision.transforms.v2,
            which draw once a clip.

    Raises:
        ValueError: for values out of range.

    Source: the released code's crop of 224 from a shorter side of 256, and tf.image.random_brightness of 0.1, which
    adds one number to a whole clip, in [-0.1, 0.1] of the range from black to white; it does not mirror videos. There
    the crop is drawn once, when a clip is stored (as JPEG of quality 75), and never the last place; and its two
    branches of reading are interchanged, so that brightness changes in evaluation and not in training. Here both are
    drawn for each training clip.
    """

    short_side: int = 256
    size: int = 224
    brightness: float = 0.1
    flip: float = 0.0
    flipped: Sequence[int] | None = None
    extra: Callable[[Tensor], Tensor] | None = None
    square: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.short_side:
            raise ValueError(f"size={self.size} is from 1 to short_side={self.short_side}")
        if not 0 <= self.brightness <= 1 or not 0 <= self.flip <= 1:
            raise ValueError(f"brightness={self.brightness} and flip={self.flip} are from 0 to 1")
        if self.flip and self.flipped is None:
            raise ValueError("flip: a mirrored video may be of another class; give flipped=flip_labels(class names)")

    def __call__(self, clip: Clip, label: int, seed: int) -> tuple[Clip, int]:
        """The clip and its label; the same seed, the same clip."""
        clip = (resize_square if self.square else resize_short_side)(clip, self.short_side)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            room = [side - self.size + 1 for side in clip.shape[-2:]]
            top, left = (int(torch.randint(places, ())) for places in room)
            clip = crop(clip, top, left, self.size)
            mirrored = bool(torch.rand(()) < self.flip)
            change = float(torch.empty(()).uniform_(-self.brightness, self.brightness)) if self.brightness else 0.0
            if mirrored:
                assert self.flipped is not None
                clip, label = clip.flip(-1), int(self.flipped[label])
            clip = clip.clone(memory_format=torch.contiguous_format)
            steps = round(255 * change)
            # On bytes: what would leave their range stops at its end.
            if steps > 0:
                clip.clamp_(max=255 - steps).add_(steps)
            elif steps < 0:
                clip.clamp_(min=-steps).sub_(-steps)
            if self.extra is not None:
                clip = self.extra(clip)
        return clip.contiguous(), label
