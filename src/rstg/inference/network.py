"""A trained network together with what it takes to use it: the names of its classes, and how it takes frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from rstg.data import pair_names
from rstg.data.annotations import read_ids
from rstg.data.sampling import ViewScheme, view_scheme
from rstg.data.something import read_numbers
from rstg.data.transforms import crop, resize_for
from rstg.models.zoo import MODELS, name_of
from rstg.weights import CONFIG, load, read_facts

# Frames this many times as long as wide are no picture, and resizing them asks for any amount of memory.
_LONGEST = 16
# Pillow's weights of red, green and blue, in 65536ths: gray stays what it is.
_LUMA = (19595, 38470, 7471)
# What a run states of its clips, by the names of view_scheme.
_SAMPLED = ("frames", "size", "short_side", "square", "sampling", "stride")


class Ranked(NamedTuple):
    """A class among the likeliest: its name, its number, its probability."""

    name: str
    number: int
    probability: float

    def as_dict(self) -> dict[str, str | int | float]:
        """Plain values, for JSON."""
        return {"class": self.name, "number": self.number, "probability": round(self.probability, 6)}


@dataclass(frozen=True)
class Intake:
    """How a network takes frames.

    Args:
        scheme: Which frames and crops; see rstg.data.sampling.
        whole: Frames of SyncMNIST: the square at the bottom (rstg data syncmnist writes captions above it) brought
            to scheme.size, never enlarged in time: a video with fewer frames than scheme.frames is taken as it is.
        gray: One channel, not three.
    """

    scheme: ViewScheme
    whole: bool = False
    gray: bool = False

    def resize(self, frames: UInt8[np.ndarray, "t h w 3"]) -> UInt8[Tensor, "t c y x"]:
        """Frames of a video as the crops are cut from.

        Raises:
            ValueError: for frames that are far longer than wide.
        """
        height, width = frames.shape[1:3]
        if max(height, width) > _LONGEST * min(height, width):
            raise ValueError(f"its frames of {width}x{height} are too narrow")
        frames = np.ascontiguousarray(frames)
        clip = torch.from_numpy(frames if frames.flags.writeable else frames.copy()).permute(0, 3, 1, 2)
        if self.gray:
            weights = torch.tensor(_LUMA, dtype=torch.int32).view(3, 1, 1)
            clip = ((clip.int() * weights).sum(1, keepdim=True).add_(1 << 15) >> 16).byte()
        return _square(clip, self.scheme.size) if self.whole else resize_for(clip, self.scheme)

    def centre(self, resized: UInt8[Tensor, "t c y x"]) -> UInt8[Tensor, "t c s s"]:
        """The middle of resized frames: what a single view and a stream see."""
        one = replace(self.scheme, times=1, crops=1)
        return crop(resized, *one.corner(one.views[0], *resized.shape[-2:]), one.size)

    def for_video(self, frames: int) -> ViewScheme:
        """The scheme for a video of so many frames."""
        return replace(self.scheme, frames=min(self.scheme.frames, frames)) if self.whole else self.scheme


def _square(clip: UInt8[Tensor, "t c h w"], size: int) -> UInt8[Tensor, "t c s s"]:
    """The square at the bottom centre, at this size; frames that were enlarged pixel by pixel come out as they were."""
    height, width = clip.shape[-2:]
    side = min(height, width)
    clip = crop(clip, height - side, (width - side) // 2, side)
    if side % size == 0:
        return torch.nn.functional.avg_pool2d(clip.float(), side // size).round_().byte()
    return torch.nn.functional.interpolate(clip, (size, size), mode="bilinear", antialias=True)


class Network:
    """A network in evaluation mode on its device, its classes by name, and how it takes frames.

    Args:
        model: From clips (B, C, T, H, W) of pixels 0..255 to logits (B, classes).
        classes: Their names, in the order of their numbers.
        intake: How it takes frames.
        device: "cpu", "cuda", or "auto".

    Raises:
        ValueError: for CUDA where there is none.
    """

    def __init__(self, model: nn.Module, classes: Sequence[str], intake: Intake, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
            self.model: Any = model.to(self.device).eval()
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device={device!r} cannot be used: {str(error).splitlines()[0]}") from error
        self.classes, self.intake = tuple(classes), intake

    @torch.inference_mode()
    def logits(self, clips: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b k"]:
        """Logits of clips as the data side gives them, on the CPU."""
        out: Tensor = self.model(clips.to(self.device).transpose(1, 2))
        return out.float().cpu()

    def rank(self, probabilities: Float[Tensor, k], top: int) -> tuple[Ranked, ...]:
        """The likeliest classes, the likeliest first."""
        best = probabilities.topk(min(top, len(self.classes)))
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return tuple(Ranked(self.classes[number], number, value) for number, value in found)


def read_network(
    model: str | Path,
    views: str = "1",
    labels: str | Path | None = None,
    device: str = "auto",
    **changes: int | str | None,
) -> Network:
    """A saved network, ready for videos.

    Classes have the names of `labels`; else those that config.json holds as facts (`classes`, a list); else, for
    networks of SyncMNIST, the pairs of digits; else their numbers.

    Args:
        model: A folder of a model, a folder of a run that holds one, or the name of a packaged network.
        views: "1", "authors", "3x1" or "3x10": see docs/video.md. Networks of SyncMNIST have the one view.
        labels: A file of names: JSON {name: number}, or text with a name a line, in the order of their numbers.
        device: As in Network.
        changes: frames, size, short_side, sampling and stride of clips, where they are not to be those that the
            network was trained with (facts["run"]["data"]), or the scheme's.

    Raises:
        FileNotFoundError, ValueError: for what is no model (see rstg.load), for names that do not fit its classes, and
            for values out of range.
    """
    place = model_folder(model)
    facts, network = read_facts(place), load(place)
    given = {name: value for name, value in changes.items() if value is not None}
    run = facts.get("run")
    data = run.get("data") if isinstance(run, Mapping) else None
    intake = _intake(network, data if isinstance(data, Mapping) else {}, views, given)
    return Network(network, _classes(network, facts, labels), intake, device)


def model_folder(model: str | Path) -> str | Path:
    """The folder of the model, where a folder of a run is named."""
    inner = Path(model) / "model"
    return inner if (inner / CONFIG).is_file() and not (Path(model) / CONFIG).is_file() else model


def _intake(model: Any, data: Mapping[str, Any], views: str, given: Mapping[str, Any]) -> Intake:
    """How a network takes frames: as it was trained (`data` of its run), but for what is given."""
    channels, frames, size, _ = MODELS[name_of(model)].clip
    gray = model.config["in_channels"] == 1
    if channels > 1:
        trained = {name: data[name] for name in _SAMPLED if isinstance(data.get(name), int | str)}
        taken = {**trained, **given}
        if "size" in given and "short_side" not in given:
            # Crops of another size show as much of the frames.
            usual = view_scheme("1", **trained)
            taken["short_side"] = round(usual.short_side * given["size"] / usual.size)
        return Intake(view_scheme(views, **taken), gray=gray)
    if views != "1":
        raise ValueError(f"views={views!r}: networks of SyncMNIST see whole frames, so there is one view: '1'")
    for name in given.keys() - {"frames", "size"}:
        raise ValueError(f"{name}: networks of SyncMNIST take whole frames, one after the other; leave it out")
    scene = {"frames": frames, "size": size, **(data.get("scene") or {}), **given}
    scheme = ViewScheme(
        frames=scene["frames"], size=scene["size"], short_side=scene["size"], sampling="dense", stride=1
    )
    return Intake(scheme, whole=True, gray=gray)


def _classes(model: Any, facts: Mapping[str, Any], labels: str | Path | None) -> Sequence[str]:
    count: int = model.num_classes
    if labels is not None:
        names = read_labels(labels)
        if len(names) != count:
            raise ValueError(f"{labels} names {len(names)} classes, and the network has {count}")
        return names
    known = facts.get("classes")
    if isinstance(known, list) and len(known) == count:
        return [str(name) for name in known]
    if MODELS[name_of(model)].clip[0] == 1 and count == len(pair_names()):
        return pair_names()
    return [str(number) for number in range(count)]


def read_labels(path: str | Path) -> list[str]:
    """Names of classes in the order of their numbers, from JSON {name: number}, or a text with a name a line.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file of another form, or numbers that are not 0, 1, 2 and so on, once each.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of labels {path}")
    if path.suffix.lower() != ".json":
        return read_ids(path)
    number = read_numbers(path)
    return sorted(number, key=number.__getitem__)
