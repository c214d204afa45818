"""One thing to measure, and measuring it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rstg.bench.memory import kept_for_backward, peak_growth
from rstg.bench.rounds import interleaved, matrix_product, quotients
from rstg.errors import check_choice, check_keywords, check_whole
from rstg.graph import RSTG
from rstg.models.cost import count_macs, count_parameters
from rstg.models.messages import count_messages
from rstg.models.zoo import MODELS, create_model
from rstg.results import spread

DTYPES: tuple[str, ...] = ("float32", "bfloat16", "float16")
BLOCK = "block"


@dataclass(frozen=True)
class Case:
    """A block or a network on input of one size.

    Attributes:
        name: "block", or a network's name (rstg.list_models()).
        options: Keyword arguments of RSTG or of the network.
        channels: Of the block's input; networks have their own.
        batch, frames, size: Clips at a time, T, and H = W.
        dtype: Of weights and input.
        compiled: Through torch.compile.
        threads: Of the CPU.
        device: "cpu" or "cuda".
        seconds: About how long each comparison is repeated.
    """

    name: str = BLOCK
    options: Mapping[str, Any] = field(default_factory=dict)
    channels: int = 512
    batch: int = 8
    frames: int = 10
    size: int = 14
    dtype: str = "float32"
    compiled: bool = False
    threads: int = 1
    device: str = "cpu"
    seconds: float = 5.0

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("name", self.name, (BLOCK, *MODELS))
        for name in ("channels", "batch", "frames", "size", "threads"):
            check_whole(name, getattr(self, name))
        check_choice("device", self.device, ("cpu", "cuda"))
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("there is no GPU that torch can use: measure on device='cpu'")

    @property
    def clip(self) -> tuple[int, int, int, int]:
        """Shape of the input without the batch."""
        channels = self.channels if self.name == BLOCK else MODELS[self.name].clip[0]
        return channels, self.frames, self.size, self.size

    def build(self) -> nn.Module:
        """The block or network, from seed 0."""
        torch.manual_seed(0)
        if self.name != BLOCK:
            return create_model(self.name, **self.options)
        options: dict[str, Any] = {**self.options}
        if isinstance(options.get("scales"), list):
            options["scales"] = tuple(options["scales"])
        check_keywords("RSTG", options, list(inspect.signature(RSTG).parameters)[1:])
        return RSTG(self.channels, **options)


def _streaming(module: Any, clip: Tensor) -> Callable[[], Tensor] | None:
    """One step of a stream of single clips, or None where the module does not run frame by frame."""
    if not hasattr(module, "step"):
        return None
    frame = clip[:1, :, 0].contiguous()
    try:
        held = {"state": module.initial_state(1)}
    except ValueError:  # it looks at later frames
        return None

    def step() -> Tensor:
        with torch.inference_mode():
            out, held["state"] = module.step(frame, held["state"])
        return out

    return step


class _Training:
    """A training step's forward and backward pass; the gradient reaches the input, as inside a network."""

    def __init__(self, module: nn.Module, clip: Tensor) -> None:
        self.module = module
        self.clip = clip.clone().requires_grad_()

    def __call__(self) -> None:
        self.module.train()
        out = self.module(self.clip)
        out.float().square().mean().backward()
        self.module.zero_grad()
        self.clip.grad = None
        self.module.eval()


def _memory(module: nn.Module, forward: Callable[[], Tensor], train: _Training, device: str) -> dict[str, Any]:
    """Peaks of both passes; forward first, which needs less, so that each grows the process."""
    peaks = {"peak_forward_bytes": peak_growth(forward, device), "peak_training_bytes": peak_growth(train, device)}
    module.train()
    kept = kept_for_backward(module, lambda: module(train.clip))
    module.eval()
    return {**peaks, "kept_for_backward_bytes": kept}


def measure(case: Case) -> dict[str, Any]:
    """Measure a case in this process: peaks of memory are true in a fresh one only (see measure_fresh).

    Returns:
        parameters, gmacs (a clip), messages and messages_formula (a clip), peak and kept memory in bytes, and
        spreads (median, lowest, highest) of forward_ms, training_ms, clips_per_second, step_ms (one frame of one
        clip, streaming; None where that does not go), clip_frame_ms (a whole clip at batch 1, by the number of
        frames), peak_gflops (of matrix products, in the same rounds), fraction_of_peak and training_fraction (a
        training step counted as three forward passes), step_over_clip_frame.
    """
    torch.set_num_threads(case.threads)
    dtype, device = getattr(torch, case.dtype), case.device
    plain = case.build().eval()
    macs, messages = count_macs(plain, case.clip), count_messages(plain, case.clip)
    figures: dict[str, Any] = {
        "parameters": count_parameters(plain),
        "gmacs": macs / 1e9,
        "messages": messages.measured,
        "messages_formula": messages.formula,
    }
    module: Any = plain.to(device, dtype)
    if case.compiled:
        module = torch.compile(module)
    clip = torch.randn(case.batch, *case.clip, device=device).to(dtype)

    def forward() -> Tensor:
        with torch.inference_mode():
            return module(clip)

    train = _Training(module, clip)
    # Libraries and gradients take their memory before peaks are looked at.
    small = _Training(module, clip[:1, :, : 1 if case.name == BLOCK else case.frames])
    for _ in range(2):
        small()
    figures |= _memory(module, forward, train, device)
    product, product_macs = matrix_product(dtype, device)
    times = interleaved({"forward": forward, "train": train, "product": product}, seconds=case.seconds, device=device)
    peak = [2 * product_macs / seconds / 1e9 for seconds in times["product"]]
    speed = 2 * macs * case.batch / 1e9
    figures |= {
        "forward_ms": spread(1e3 * seconds for seconds in times["forward"]),
        "training_ms": spread(1e3 * seconds for seconds in times["train"]),
        "clips_per_second": spread(case.batch / seconds for seconds in times["forward"]),
        "peak_gflops": spread(peak),
        "fraction_of_peak": spread(speed / t / p for t, p in zip(times["forward"], peak, strict=True)),
        "training_fraction": spread(3 * speed / t / p for t, p in zip(times["train"], peak, strict=True)),
    }
    # A compiled module's other methods are those of the module as it was.
    return figures | _stream_figures(case, plain.eval(), clip)


def _stream_figures(case: Case, module: nn.Module, clip: Tensor) -> dict[str, Any]:
    step = _streaming(module, clip)
    if step is None:
        return {"step_ms": None, "clip_frame_ms": None, "step_over_clip_frame": None}
    one = clip[:1].contiguous()

    def whole() -> Tensor:
        with torch.inference_mode():
            return module(one)

    def steps() -> None:
        for _ in range(case.frames):
            step()

    times = interleaved({"steps": steps, "whole": whole}, seconds=case.seconds / 2, device=case.device)
    return {
        "step_ms": spread(1e3 * seconds / case.frames for seconds in times["steps"]),
        "clip_frame_ms": spread(1e3 * seconds / case.frames for seconds in times["whole"]),
        "step_over_clip_frame": spread(quotients(times["steps"], times["whole"])),
    }
