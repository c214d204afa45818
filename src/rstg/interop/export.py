"""Networks for other runtimes: ONNX and torch.export files of the clip model and of the one-frame step."""

from __future__ import annotations

import copy
import importlib
import io
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from rstg.errors import MissingExtraError, check_choice
from rstg.files import replacing
from rstg.graph.nodes import MatrixCache
from rstg.models.zoo import name_of

FORMATS: tuple[str, ...] = ("onnx", "torch")
# Outputs of the file may differ from ours by this much, in units of the largest output (or of 1, if that is less).
TOLERANCE = 1e-4
_OPSET = 18


@dataclass(frozen=True)
class Exported:
    """What a file holds, and how well.

    Attributes:
        path: The file.
        inputs, outputs: Name of each, with its shape; "batch" stands for any number of clips, and an expression of
            it ("14*batch") for what grows with it. Every other size is fixed.
        difference: Largest difference of the file's outputs from the network's own, on clips of random pixels.
    """

    path: Path
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    difference: float


def export(
    model: nn.Module,
    path: str | Path,
    *,
    frames: int,
    size: tuple[int, int],
    format: str = "onnx",
    step: bool = False,
) -> Exported:
    """Write a network as a file for another runtime, and check the file's outputs against the network's.

    The clip model takes `clip` (batch, C, T, H, W) and gives `logits` (batch, K). The step takes `frame`
    (batch, C, H, W) and the memory, a few tensors named state..., and gives the logits of the clip so far and the
    memory after the frame, in the same order; before the first frame the memory is all zeros. Pixels are float32,
    0..255. The batch may change from call to call. T, H and W may not: the exporter follows the recurrent cell
    through a given number of frames, and the regions' matrices are made for one H and W. The step takes clips of any
    length.

    Args:
        model: A network of list_models(); it is left as it is.
        path: The file.
        frames, size: T, and H and W.
        format: "onnx", or "torch" for a file that torch.export.load reads, without this package.
        step: Export the step instead of the clip model.

    Raises:
        ValueError: for a network that the zoo does not hold, an unknown format, sizes that do not fit the network, a
            step of a network that looks at later frames, or a file whose logits differ by more than 1e-4 of the
            largest.
        MissingExtraError: for ONNX without the extra "onnx".
    """
    check_choice("format", format, FORMATS)
    name = name_of(model)
    if format == "onnx":
        _need_onnx()
    network = copy.deepcopy(model).cpu().float().eval()
    sample = _Sample(network, frames, size, step)
    _fix_matrices(network)
    wrapped = _Step(network, sample.state) if step else _Clip(network)
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter remarks on nn.LSTM's own list of its weights.
        warnings.simplefilter("ignore")
        program = torch.export.export(wrapped, sample.arguments(2), dynamic_shapes=sample.dynamic_shapes())
        with replacing(path) as scratch:
            try:
                if format == "onnx":
                    _write_onnx(program, scratch, sample, {"model": name, "options": network.config})
                    difference = _compare(sample, wrapped, _onnx_runner(scratch))
                else:
                    # Through memory, because torch takes no file whose name ends in anything but .pt2.
                    held = io.BytesIO()
                    torch.export.save(program, held)
                    scratch.write_bytes(held.getvalue())
                    difference = _compare(sample, wrapped, torch.export.load(io.BytesIO(held.getvalue())).module())
                if not difference <= TOLERANCE:
                    raise ValueError(f"the {format} file's logits differ from the network's by {difference:.1e}")
            except BaseException:
                scratch.unlink(missing_ok=True)
                raise
    return Exported(Path(path), sample.shapes(sample.input_names), sample.shapes(sample.output_names), difference)


def _need_onnx() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise MissingExtraError("ONNX", name, "onnx") from error


class _MadeMatrices(MatrixCache):
    """The matrices that a run has made: constants of the exported graph, which would else compute them every time."""

    def get(self, height: int, width: int, like: Tensor) -> Tensor:
        return self.made[height, width, like.device, like.dtype]


def _fix_matrices(network: nn.Module) -> None:
    for module in network.modules():
        for name, cache in vars(module).items():
            if isinstance(cache, MatrixCache):
                fixed = _MadeMatrices(cache.make, cache.scales)
                fixed.made = cache.made
                setattr(module, name, fixed)


class _Clip(nn.Module):
    # The networks' own module "graph" would stand where an exported module keeps its graph; one level
    # further down it does not.
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clip: Tensor) -> Tensor:
        return self.network(clip)


class _Step(nn.Module):
    """The step with the memory as a flat list of tensors."""

    def __init__(self, network: nn.Module, state: Any) -> None:
        super().__init__()
        self.network = network
        self.leaves, self.spec = pytree.tree_flatten(state)

    def forward(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        given = iter(state)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        logits, after = self.network.step(frame, pytree.tree_unflatten(leaves, self.spec))  # type: ignore[operator]
        return (logits, *_tensors(after))


def _tensors(state: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor)]


def _name(path: Sequence[Any]) -> str:
    """Name of a tensor of the memory: state.streams[0][1] becomes state_streams_0_1."""
    return "state_" + re.sub(r"\W+", "_", pytree.keystr(tuple(path))).strip("_")


class _Sample:
    """Inputs to trace and check with, and the names and shapes that they have for any batch."""

    def __init__(self, network: nn.Module, frames: int, size: tuple[int, int], step: bool) -> None:
        if frames < 1:
            raise ValueError(f"frames={frames}: a clip has at least one")
        options: Any = network.config
        self.shape: tuple[int, int, int, int] = (options["in_channels"], frames, *size)
        self.classes: int = options["num_classes"]
        self.step = step
        self.network: Any = network
        self.names: list[str] = []
        # One and two clips tell which sizes grow with the batch, and by how much.
        self.small: Any = self._initial(1) if step else ()
        self.state: Any = self._initial(2) if step else ()
        if step:
            paths = pytree.tree_flatten_with_path(self.state)[0]
            self.names = [_name(path) for path, leaf in paths if isinstance(leaf, Tensor)]
        else:
            with torch.no_grad():
                network(self.clip(1))

    def clip(self, batch: int, seed: int = 0) -> Tensor:
        noise = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (batch, *self.shape), generator=noise).float()

    def _initial(self, batch: int) -> Any:
        """Memory before the first frame, in the shapes that it has from the first frame on."""
        before = self.network.initial_state(batch)
        with torch.no_grad():
            _, after = self.network.step(self.clip(batch)[:, :, 0], before)
        for tensor in _tensors(before):
            assert not tensor.any(), "the memory before the first frame is all zeros"
        return pytree.tree_map(lambda a: torch.zeros_like(a) if isinstance(a, Tensor) else a, after)

    @property
    def input_names(self) -> list[str]:
        return ["frame", *self.names] if self.step else ["clip"]

    @property
    def output_names(self) -> list[str]:
        return ["logits", *(f"next_{name}" for name in self.names)]

    def arguments(self, batch: int) -> tuple[Tensor, ...]:
        clip = self.clip(batch)
        return (clip[:, :, 0], *_tensors(self._initial(batch))) if self.step else (clip,)

    def growth(self) -> list[dict[int, int]]:
        """For each tensor of the memory, how much each size grows with one more clip."""
        pairs = zip(_tensors(self.small), _tensors(self.state), strict=True)
        return [
            {axis: b - a for axis, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b}
            for one, two in pairs
        ]

    def dynamic_shapes(self) -> Any:
        batch = torch.export.Dim("batch", min=1)
        state = tuple({axis: batch if by == 1 else by * batch for axis, by in grown.items()} for grown in self.growth())
        return ({0: batch}, state) if self.step else ({0: batch},)

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int | str, ...]]:
        found: dict[str, tuple[int | str, ...]] = {
            "clip": ("batch", *self.shape),
            "frame": ("batch", self.shape[0], *self.shape[2:]),
            "logits": ("batch", self.classes),
        }
        for name, tensor, grown in zip(self.names, _tensors(self.state), self.growth(), strict=True):
            sizes: list[int | str] = list(tensor.shape)
            for axis, by in grown.items():
                sizes[axis] = "batch" if by == 1 else f"{by}*batch"
            found[name] = found[f"next_{name}"] = tuple(sizes)
        return {name: found[name] for name in names}


def _write_onnx(program: torch.export.ExportedProgram, path: Path, sample: _Sample, facts: dict[str, Any]) -> None:
    written = torch.onnx.export(
        program,
        input_names=sample.input_names,
        output_names=sample.output_names,
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    assert written is not None
    _name_batch(written.model.graph)
    written.model.metadata_props["rstg"] = json.dumps(facts)
    written.save(path)


def _name_batch(graph: Any) -> None:
    """Call the batch "batch" where the exporter gave it a number (s53)."""
    number = str(graph.inputs[0].shape[0])
    for value in (*graph.inputs, *(out for node in graph for out in node.outputs)):
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int) and str(size) != "None":
                value.shape[axis] = re.sub(rf"\b{number}\b", "batch", str(size))


def _onnx_runner(path: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(*arguments: Tensor) -> list[Tensor]:
        found = session.run(None, {n: a.numpy() for n, a in zip(names, arguments, strict=True)})
        return [torch.from_numpy(array) for array in found]

    return run


def _compare(sample: _Sample, ours: nn.Module, theirs: Any) -> float:
    """Largest difference of the logits on three clips, in all of their frames; in units of the largest."""
    worst = 0.0

    def see(mine: Any, found: Any) -> None:
        nonlocal worst
        for a, b in zip(pytree.tree_leaves(mine), pytree.tree_leaves(found), strict=True):
            if not a.isfinite().all():
                raise ValueError("the network gives outputs that are not finite: its file could not be checked")
            scale = max(1.0, float(a.double().abs().max()))
            apart = float((a.double() - b.double()).abs().max()) / scale
            # Not max() alone, which a NaN slips through.
            worst = max(worst, apart) if apart == apart else float("inf")

    clip = sample.clip(3, seed=1)
    if not sample.step:
        see(ours(clip), theirs(clip))
        return worst
    mine = found = tuple(_tensors(sample._initial(3)))
    for frame in clip.unbind(2):
        a, b = ours(frame, *mine), tuple(theirs(frame, *found))
        # Each goes on with its own memory, so that an error in it shows in the logits that follow. The memory itself
        # is not compared: where a network looks for motion it holds rounding, enlarged, that logits do not show.
        see(a[0], b[0])
        mine, found = a[1:], b[1:]
    return worst
