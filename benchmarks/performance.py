"""What the block costs: against the machine, straightforward code, non-local blocks, full attention; streaming.

python benchmarks/performance.py --out docs/results

writes performance.json and, from it, performance.md and performance.png. Run it where nothing else runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from rstg.bench import Case, interleaved, measure_fresh, quotients
from rstg.graph import RSTG
from rstg.graph.space import SpaceStage
from rstg.models.cost import count_macs
from rstg.models.nonlocal_block import NonLocalBlock
from rstg.results import provenance, spread, table, write_page, write_results
from rstg.training.memory import keep_freed_memory
from rstg.viz.bench_pictures import growth_picture

RESULTS = "performance.json"
CHANNELS, BATCH, FRAMES, SIZE = 512, 8, 10, 14
REPO = Path(__file__).resolve().parent.parent

# The graph as released, in its two forms, and as the paper writes it.
FORMS: dict[str, dict[str, Any]] = {
    "released, additive": {"attention": "additive", "neighbours": "soft", "norm": "none", "input_norm": "batch"},
    "released, dot, LN": {"neighbours": "soft", "norm": "layer_clip", "update": "per_scale", "positions": False},
    "default": {},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "send on sums": {"send": "sums"},
    "GRU": {"cell": "gru"},
    "scales 2, 1": {"scales": [2, 1]},
    "send on sums, GRU, scales 2, 1": {"send": "sums", "cell": "gru", "scales": [2, 1]},
    "recompute": {"recompute": True},
}


class FullAttention(nn.Module):
    """Every place of every frame looks at every place of every frame: the attention layer of a video transformer."""

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) to the same."""
        tokens = x.flatten(2).transpose(1, 2)
        query, key, value = self.inputs(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        heard = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return (tokens + self.output(heard)).transpose(1, 2).view_as(x)


def concatenated(stage: SpaceStage, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """The space stage as it is written down: all pairs [v_j, p_j, v_i, p_i] side by side, through the send MLP."""
    send, count = stage.send, nodes.shape[2]
    if send.positions is not None:
        ends = torch.cat([nodes, send.positions.expand(*nodes.shape[:2], -1, -1)], dim=-1)
    else:
        ends = nodes
    source = ends.unsqueeze(2).expand(-1, -1, count, -1, -1)
    target = ends.unsqueeze(3).expand(-1, -1, -1, count, -1)
    pairs = torch.cat([source, target], dim=-1)
    messages = send.norm(torch.relu(send.second(torch.relu(send.first(pairs)))))
    weights = stage.gather.attention(nodes, nodes)
    return stage.update(nodes, stage.gather(weights.transpose(2, 3) @ messages)), weights.mean(2)


def _slow_graph() -> Callable[..., tuple[Tensor, Tensor]]:
    """The loops that the tests hold the block against."""
    spec = importlib.util.spec_from_file_location("slow_graph", REPO / "tests" / "graph" / "slow_graph.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.slow_graph


def _close(ours: Tensor, theirs: Tensor) -> None:
    error = float((ours - theirs).abs().max() / theirs.abs().max())
    if not error < 1e-4:
        raise ValueError(f"what is compared does not give the same: {error:.1e} of the largest value")


def straightforward(seconds: float) -> dict[str, Any]:
    """The block beside code that gives the same: concatenated pairs, as the released graph has them, and loops."""
    found: dict[str, Any] = {}
    slow_graph = _slow_graph()
    for form, options in FORMS.items():
        if options.get("neighbours") != "soft":
            continue
        block, pairs = (RSTG(CHANNELS, **options).eval() for _ in range(2))
        pairs.load_state_dict(block.state_dict())
        pairs.space.forward = partial(concatenated, pairs.space)  # type: ignore[method-assign]
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.randn(BATCH, CHANNELS, FRAMES, SIZE, SIZE)
            with torch.inference_mode():
                if dtype == torch.float32:
                    _close(block(x), pairs(x))
                one, other = block.to(dtype), pairs.to(dtype)
                tasks = {"block": partial(one, x.to(dtype)), "theirs": partial(other, x.to(dtype))}
                name = f"pairs side by side: {form}, {str(dtype).removeprefix('torch.')}"
                found[name] = _beside(tasks, BATCH, seconds)
    block = RSTG(CHANNELS, neighbours="soft").eval()
    x = torch.randn(1, CHANNELS, FRAMES, SIZE, SIZE)
    with torch.inference_mode():
        _close(block(x), slow_graph(block, x, "layer")[0])
        loops: dict[str, Callable[[], object]] = {
            "block": partial(block, x),
            "theirs": lambda: slow_graph(block, x, "layer")[0],
        }
        found["loops of Algorithm 1: default, soft, float32"] = _beside(loops, 1, seconds)
    return found


def _beside(tasks: Mapping[str, Callable[[], object]], batch: int, seconds: float) -> dict[str, Any]:
    times = interleaved(tasks, seconds=seconds)
    return {
        "batch": batch,
        "block_ms": spread(1e3 * t for t in times["block"]),
        "theirs_ms": spread(1e3 * t for t in times["theirs"]),
        "times": spread(quotients(times["theirs"], times["block"])),
    }


def growth(longest: int, seconds: float) -> dict[str, Any]:
    """Forward passes of one clip of 8 frames to `longest`, of what can stand at the same place of a network."""
    networks: dict[str, nn.Module] = {
        "RSTG": RSTG(CHANNELS, output="map"),
        "non-local block": NonLocalBlock(CHANNELS),
        "full space-time attention": FullAttention(CHANNELS),
    }
    # Every place with every place is four times the keys at twice the width: a minute a pass beyond this. A non-local
    # block's weights alone are 10 GB at 512 frames, twice.
    most = {"full space-time attention": 128, "non-local block": 256}
    found: dict[str, Any] = {name: {} for name in networks}
    frames = 8
    while frames <= longest:
        x = torch.randn(1, CHANNELS, frames, SIZE, SIZE)
        with torch.inference_mode():
            tasks = {
                name: partial(network.eval(), x)
                for name, network in networks.items()
                if frames <= most.get(name, longest)
            }
            times = interleaved(tasks, seconds=seconds, rounds=(3, 30))
        for name, measured in times.items():
            macs = count_macs(networks[name], (CHANNELS, frames, SIZE, SIZE))
            found[name][str(frames)] = {"ms": spread(1e3 * t for t in measured), "gmacs": round(macs / 1e9, 2)}
        frames *= 2
    return found


def streaming(steps: int, seconds: float, dtype: torch.dtype) -> dict[str, Any]:
    """A step beside a clip's cost a frame, at batch 1, and how long a step takes as more frames have been seen."""
    block: Any = RSTG(CHANNELS).eval().to(dtype)
    x = torch.randn(1, CHANNELS, FRAMES, SIZE, SIZE).to(dtype)
    frame = x[:, :, 0].contiguous()
    held = {"state": block.initial_state(1)}

    def step() -> None:
        _, held["state"] = block.step(frame, held["state"])

    def clip_of_steps() -> None:
        for _ in range(FRAMES):
            step()

    # The products of the block's weights alone, in a step's and in a clip's shape: what no step can do without.
    weights = [weight for weight in block.parameters() if weight.ndim == 2 and min(weight.shape) > 1]

    def products(rows: int) -> Callable[[], None]:
        inputs = {width: torch.randn(rows, width).to(dtype) for width in {weight.shape[1] for weight in weights}}

        def multiply() -> None:
            for weight in weights:
                nn.functional.linear(inputs[weight.shape[1]], weight)

        return multiply

    nodes = block.num_nodes
    with torch.inference_mode():
        times = interleaved({"steps": clip_of_steps, "clip": partial(block, x)}, seconds=seconds)
        alone = interleaved({"step": products(nodes), "clip": products(FRAMES * nodes)}, seconds=seconds)
        held["state"] = block.initial_state(1)
        taken = []
        for _ in range(steps):
            begun = time.perf_counter()
            step()
            taken.append(time.perf_counter() - begun)
    window = steps // 10
    return {
        "step_ms": spread(1e3 * t / FRAMES for t in times["steps"]),
        "clip_frame_ms": spread(1e3 * t / FRAMES for t in times["clip"]),
        "step_over_clip_frame": spread(quotients(times["steps"], times["clip"])),
        "products_over_clip_frame": spread(FRAMES * t for t in quotients(alone["step"], alone["clip"])),
        "by_frames_seen_ms": {
            str(start + window): spread(1e3 * t for t in taken[start : start + window])
            for start in range(0, steps - window + 1, 3 * window)
        },
    }


def cases(seconds: float) -> dict[str, Any]:
    """The block alone, each form and variant in a process of its own."""
    threads = torch.get_num_threads()
    wanted: dict[str, Case] = {}
    for dtype in ("float32", "bfloat16"):
        for name, options in FORMS.items():
            wanted[f"{name}, {dtype}"] = Case(options=options, dtype=dtype, threads=threads, seconds=seconds)
    for name, options in VARIANTS.items():
        if options:
            wanted[f"{name}, float32"] = Case(options=options, threads=threads, seconds=seconds)
    return {name: measure_fresh(case) for name, case in tqdm(wanted.items(), desc="cases", unit="case")}


def _cell(found: dict[str, float], digits: str = "g") -> str:
    return f"{found['median']:{digits}} ({found['lowest']:{digits}} to {found['highest']:{digits}})"


def _case_tables(figures: dict[str, Any]) -> str:
    rows, memory = [], []
    for name, found in figures["cases"].items():
        rows.append(
            [
                name,
                f"{found['gmacs']:.2f}",
                found["messages"],
                _cell(found["forward_ms"]),
                f"{found['clips_per_second']['median']:g}",
                _cell(found["fraction_of_peak"], ".2f"),
                f"{found['peak_gflops']['median']:g}",
                _cell(found["training_ms"]),
            ]
        )
        peak, kept = found["peak_training_bytes"], found["kept_for_backward_bytes"]
        if peak is not None:
            forward = found["peak_forward_bytes"]
            memory.append(
                [name, f"{forward / 1e6:.0f}", f"{peak / 1e6:.0f}", f"{kept / 1e6:.0f}", f"{peak / kept:.2f}"]
            )
    head = ["form", "GMACs a clip", "messages a clip", "forward, ms", "clips/s", "of peak", "peak GFLOP/s"]
    text = table([*head, "forward and backward, ms"], rows)
    header = ["form", "forward, MB", "forward and backward, MB", "kept for the backward pass, MB", "times what is kept"]
    return text + "\n\n## Memory\n\nGrowth of a fresh process at its peak.\n\n" + table(header, memory)


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    figures = results["figures"]
    plain = [
        [name, found["batch"], _cell(found["block_ms"]), _cell(found["theirs_ms"]), _cell(found["times"])]
        for name, found in figures["straightforward"].items()
    ]
    grown = figures["growth"]
    counts = list(grown["RSTG"])
    cost = [
        [frames]
        + [_cell(grown[name][frames]["ms"]) if frames in grown[name] else "" for name in grown]
        + [f"{grown[name][frames]['gmacs']:g}" if frames in grown[name] else "" for name in grown]
        for frames in counts
    ]
    streams = figures["streaming"]
    seen = [
        [frames, *(_cell(stream["by_frames_seen_ms"][frames]) for stream in streams.values())]
        for frames in next(iter(streams.values()))["by_frames_seen_ms"]
    ]
    quotient = ("step_over_clip_frame", "products_over_clip_frame")
    steps = [
        [
            dtype,
            *(_cell(stream[key]) for key in ("step_ms", "clip_frame_ms")),
            *(_cell(stream[key], ".2f") for key in quotient),
        ]
        for dtype, stream in streams.items()
    ]
    return (
        "# What the block costs\n\n"
        f"{CHANNELS} channels, maps of {SIZE}x{SIZE}, 14 nodes of width 512, K = 3; median (lowest to highest). What "
        "is compared ran in turn.\n\n"
        f"## {BATCH} clips of {FRAMES} frames\n\n"
        "`of peak` is the speed of the products that the model needs, beside that of a product of 2048x2048 matrices "
        "in the same rounds, type and threads.\n\n"
        f"{_case_tables(figures)}\n\n"
        "## Straightforward code\n\n"
        "All pairs of nodes side by side through the send MLP, as the released graph has them, and the loops that the "
        "tests hold the block against; both give what the block gives.\n\n"
        + table(["code", "clips", "block, ms", "code, ms", "times"], plain)
        + "\n\n## Longer clips\n\nOne clip; what can stand at the same place of a network.\n\n"
        + "![Time of a forward pass against frames](performance.png)\n\n"
        + table(["frames", *(f"{name}, ms" for name in grown), *(f"{name}, GMACs" for name in grown)], cost)
        + f"\n\n## Streaming\n\nA step on one frame, beside a frame's share of a clip of {FRAMES}; at batch 1. "
        "`products alone` is the same quotient for products of the block's weights and nothing else, each with the "
        "rows of one frame and of a clip: reading weights for 14 rows is what a step pays for.\n\n"
        + table(["type", "step, ms", "clip, ms a frame", "times", "products alone, times"], steps)
        + "\n\nAs more frames have been seen; ms a step.\n\n"
        + table(["frames seen", *streams], seen)
        + f"\n\n{provenance(results)}\n"
    )


def write_report(results: dict[str, Any], out: Path) -> None:
    """Write the page and the picture of the results into a folder."""
    lines = {
        name: {int(frames): found["ms"] for frames, found in points.items()}
        for name, points in results["figures"]["growth"].items()
    }
    growth_picture(lines, (out / RESULTS).with_suffix(".png"))
    write_page(out / RESULTS, page(results))


def main() -> None:
    """Measure, and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each comparison is repeated")
    parser.add_argument("--longest", type=int, default=512, help="frames of the longest clip")
    parser.add_argument("--steps", type=int, default=1000, help="frames of the stream")
    options = parser.parse_args()
    torch.manual_seed(0)
    # As rstg's own programs do: large tensors of one network would cost the next one time.
    keep_freed_memory()
    begun = time.perf_counter()
    figures = {
        "cases": cases(options.seconds),
        "straightforward": straightforward(options.seconds),
        "growth": growth(options.longest, options.seconds),
        "streaming": {
            str(dtype).removeprefix("torch."): streaming(options.steps, options.seconds, dtype)
            for dtype in (torch.float32, torch.bfloat16)
        },
    }
    results = write_results(
        options.out / RESULTS,
        command=f"python benchmarks/performance.py --out {options.out}",
        config={"seconds": options.seconds, "longest": options.longest, "steps": options.steps},
        seed=0,
        data="random feature volumes",
        wall_seconds=time.perf_counter() - begun,
        figures=figures,
    )
    write_report(results, options.out)


if __name__ == "__main__":
    main()
