"""Weights of ResNet-50 video networks trained by others, for the backbones of ours.

video-nonlocal-net's Caffe2 files, PySlowFast's files of C2D, I3D and I3D-NLN, and torchvision's ResNet-50, whose
kernels are inflated over time. docs/weights.md tells where they are and under which licences.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rstg.errors import check_choice
from rstg.interop.backbone_names import from_caffe2, from_pyslowfast, from_torchvision
from rstg.models.video_rstg import VideoRSTG
from rstg.pickles import NUMERIC, read_arrays

KEPT: tuple[str, ...] = ("classifier", "non_local")
# A name that only such a file has, and what translates its names.
SOURCES: dict[str, tuple[str, Callable[[str], str | None]]] = {
    "caffe2": ("res2_0_branch2a_w", from_caffe2),
    "pyslowfast": ("s2.pathway0_res0.branch2.a.weight", from_pyslowfast),
    "torchvision": ("layer1.0.conv1.weight", from_torchvision),
}
# What comes with the weights of a training run and is none.
_CAFFE2_SKIPPED = re.compile(r"_momentum$|^(lr|model_iter|epoch)$")
_SHOWN = 8


@dataclass(frozen=True)
class Backbone:
    """Weights read from a file, under our names.

    Attributes:
        source: "caffe2", "pyslowfast" or "torchvision".
        tensors: {our name: tensor}; convolutions of torchvision's still span no time.
        unknown: Names in the file that none of ours corresponds to.
    """

    source: str
    tensors: dict[str, Tensor]
    unknown: tuple[str, ...]

    @property
    def has_statistics(self) -> bool:
        """Whether the batch norms come with their statistics."""
        return any(name.endswith("running_mean") for name in self.tensors)

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the file's classifier, if it has one."""
        return len(self.tensors["classifier.bias"]) if "classifier.bias" in self.tensors else None


def read_backbone(path: str | Path) -> Backbone:
    """Read a file of weights, whichever of the three kinds it is. Nothing of it is executed.

    Args:
        path: A Caffe2 pickle (.pkl), a PySlowFast checkpoint (.pyth, .pkl), or torchvision's ResNet-50 (.pth or
            safetensors).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of no kind that is known here, damaged, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights {path}")
    state = _read_tensors(path)
    for source, (mark, name_of) in SOURCES.items():
        if mark in state:
            return _translate(source, state, name_of)
    some = ", ".join(list(state)[:_SHOWN]) or "nothing"
    raise ValueError(f"{path} holds no ResNet-50 of video-nonlocal-net, PySlowFast or torchvision, but {some}")


def load_backbone(
    model: nn.Module,
    weights: Backbone | str | Path,
    *,
    keep: Sequence[str] = (),
    inflate: bool = False,
    affine: bool = False,
) -> Backbone:
    """Fill the backbone and classifier of a video network; its graphs stay as they are.

    Every tensor of backbone and classifier is filled exactly once, but for the parts in `keep`. A 2D kernel, or a
    kernel of one frame with `inflate`, becomes one of T frames by repeating it and dividing by T: on a still clip it
    gives what it gave on the image, but for the clip's ends.

    Args:
        model: A VideoRSTG, such as create_model("i3d_r50").
        weights: From read_backbone, or its argument.
        keep: Parts that are left as they are, and may be missing or different in the file: "classifier",
            "non_local".
        inflate: Inflate a file of C2D for I3D.
        affine: The file's norms are a scale and a shift that hold the statistics already (video-nonlocal-net's
            "affine" files), not batch norms without their statistics (its "clean" files).

    Raises:
        ValueError: if names are missing, left over or of another shape; the message says what would help, and
            the model is left as it was.
        FileNotFoundError: if there is no such file.

    Source: inflation as in Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017.
    """
    if not isinstance(model, VideoRSTG):
        raise ValueError(f"a {type(model).__name__} has no ResNet-50 backbone")
    for part in keep:
        check_choice("keep", part, KEPT)
    if not isinstance(weights, Backbone):
        weights = read_backbone(weights)
    own = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(("backbone.", "classifier.")) and not name.endswith("num_batches_tracked")
    }
    given = dict(weights.tensors)
    if affine and not weights.has_statistics:
        given |= _statistics(given, model)
    kept = {name for name in (*own, *given) if _part(name) in keep}
    filled: dict[str, Tensor] = {}
    problems: list[str] = [f"unexpected: {name}" for name in weights.unknown]
    problems += [f"unexpected: {name}" for name in given if name not in own and name not in kept]
    hints: set[str] = set()
    for name, target in own.items():
        if name in kept:
            continue
        if name not in given:
            problems.append(f"missing: {name}")
            hints.add(_part(name) if weights.has_statistics or "running_" not in name else "affine")
            continue
        value = _fit(given[name], target, inflate)
        if value.shape != target.shape:
            problems.append(f"shape of {name}: {list(given[name].shape)}, expected {list(target.shape)}")
            hints.add("inflate" if _spans_no_time(given[name], target) else _part(name))
            continue
        filled[name] = value
    if problems:
        raise ValueError(_told(weights, problems, hints))
    with torch.no_grad():
        for name, value in filled.items():
            own[name].copy_(value)
    return weights


def _part(name: str) -> str:
    if name.startswith("classifier."):
        return "classifier"
    return "non_local" if name.startswith("backbone.non_local.") else "backbone"


def _fit(value: Tensor, target: Tensor, inflate: bool) -> Tensor:
    """The tensor in our layout: kernels over time, a linear layer without the axes of a 1x1x1 convolution."""
    if target.ndim == 2 and value.ndim > 2 and set(value.shape[2:]) == {1}:
        return value.flatten(1)
    if target.ndim != 5:
        return value
    flat = value.ndim == 4
    value = value.unsqueeze(2) if flat else value
    frames = target.shape[2]
    if value.ndim == 5 and value.shape[2] == 1 and frames > 1 and (flat or inflate):
        return value.expand(-1, -1, frames, -1, -1) / frames
    return value


def _spans_no_time(value: Tensor, target: Tensor) -> bool:
    return value.ndim == target.ndim == 5 and value.shape[2] == 1 < target.shape[2]


def _statistics(given: Mapping[str, Tensor], model: VideoRSTG) -> dict[str, Tensor]:
    """Statistics with which a batch norm is its scale and shift alone."""
    eps = model.backbone.bn1.eps
    added = {}
    for name, value in given.items():
        if re.search(r"(bn\d|downsample\.1|norm)\.weight$", name):
            stem = name.removesuffix("weight")
            added[f"{stem}running_mean"] = torch.zeros_like(value)
            added[f"{stem}running_var"] = torch.full_like(value, 1 - eps)
    return added


def _told(weights: Backbone, problems: list[str], hints: set[str]) -> str:
    listed = "; ".join(problems[:_SHOWN]) + (f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else "")
    advice = ""
    for part in KEPT:
        if part in hints:
            advice += f'. To train the {part.replace("_", "-")} part anew: keep=["{part}"] (--keep {part})'
    if "inflate" in hints:
        advice += ". The file's kernels do not span time; to inflate them: inflate=True (--inflate)"
    if "affine" in hints:
        advice += ". The file has no statistics; where its norms hold them already: affine=True (--affine)"
    return f"the {weights.source} weights do not fit this network: {listed}{advice}"


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(str(path))
        except SafetensorError as error:
            raise ValueError(f"{path} is not a complete safetensors file: {error}") from error
    if zipfile.is_zipfile(path) or path.suffix in (".pyth", ".pth", ".pt"):
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise ValueError(f"{path} is not a file of tensors that torch.load takes: {reason}") from error
        for key in ("model_state", "state_dict"):
            if isinstance(found, dict) and isinstance(found.get(key), dict):
                found = found[key]
    else:
        found = read_arrays(path, "a Caffe2 file of weights")
        if isinstance(found, dict) and isinstance(found.get("blobs"), dict):
            found = found["blobs"]
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not named tensors")
    return {
        str(name): _tensor(path, name, value) for name, value in found.items() if not _CAFFE2_SKIPPED.search(str(name))
    }


def _tensor(path: Path, name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in NUMERIC:
        raise ValueError(f"{path}: {name!r} holds {array.dtype}, not numbers")
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _translate(source: str, state: Mapping[str, Tensor], name_of: Callable[[str], str | None]) -> Backbone:
    tensors: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        ours = name_of(name)
        if ours is None or ours in tensors:
            unknown.append(name)
        else:
            tensors[ours] = tensor
    return Backbone(source, tensors, tuple(unknown))
