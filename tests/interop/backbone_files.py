"""Small files of ResNet-50 video networks, in the names and containers of others, and what they compute."""

from __future__ import annotations

import io
import pickle
import struct
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import avg_pool3d, batch_norm, conv3d, max_pool3d, relu

WIDTH, CLASSES = 4, 6
BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}
TEMPORAL = {2: (1, 1, 1), 3: (1, 0, 1, 0), 4: (1, 0, 1, 0, 1, 0), 5: (0, 1, 0)}


class Python2Pickler(pickle._Pickler):
    """Writes what cPickle of Python 2 writes with protocol 2: byte strings, and NumPy's old module names."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        raw = text.encode("latin1") if isinstance(text, str) else text
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    def save_global(self, thing, name=None):
        name = name or thing.__qualname__
        module = thing.__module__.replace("numpy._core", "numpy.core")
        self.write(b"c" + f"{module}\n{name}\n".encode())
        self.memoize(thing)

    dispatch[str] = dispatch[bytes] = save_string
    dispatch[type] = save_global
    dispatch[type(np.empty(0).__reduce__()[0])] = save_global


def python2_dumps(value):
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2, fix_imports=False).dump(value)
    return stream.getvalue()


def caffe2_blobs(temporal="i3d", non_local=False, statistics=True):
    """Random blobs under the names and of the shapes that video-nonlocal-net writes."""
    noise = np.random.RandomState(0)
    blobs = {}

    def put(name, *shape):
        blobs[name] = (noise.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)

    def norm(name, channels):
        put(f"{name}_s", channels)
        put(f"{name}_b", channels)
        blobs[f"{name}_s"] = 1 + 0.1 * blobs[f"{name}_s"]
        if statistics:
            put(f"{name}_rm", channels)
            blobs[f"{name}_riv"] = noise.uniform(0.5, 2, channels).astype(np.float32)

    put("conv1_w", WIDTH, 3, 5 if temporal == "i3d" else 1, 7, 7)
    norm("res_conv1_bn", WIDTH)
    before = WIDTH
    for stage, count in BLOCKS.items():
        inner, out = WIDTH * 2 ** (stage - 2), 4 * WIDTH * 2 ** (stage - 2)
        for i in range(count):
            prefix = f"res{stage}_{i}_branch"
            span = 3 if temporal == "i3d" and TEMPORAL[stage][i] else 1
            put(f"{prefix}2a_w", inner, before, span, 1, 1)
            put(f"{prefix}2b_w", inner, inner, 1, 3, 3)
            put(f"{prefix}2c_w", out, inner, 1, 1, 1)
            for letter, channels in (("a", inner), ("b", inner), ("c", out)):
                norm(f"{prefix}2{letter}_bn", channels)
            if i == 0:
                put(f"{prefix}1_w", out, before, 1, 1, 1)
                norm(f"{prefix}1_bn", out)
            before = out
            if non_local and stage in (3, 4) and i % 2 == 1:
                place = f"nonlocal_conv{stage}_{i}"
                for part in ("theta", "phi", "g"):
                    put(f"{place}_{part}_w", out // 2, out, 1, 1, 1)
                    put(f"{place}_{part}_b", out // 2)
                put(f"{place}_out_w", out, out // 2, 1, 1, 1)
                put(f"{place}_out_b", out)
                norm(f"{place}_bn", out)
    put("pred_w", CLASSES, before)
    put("pred_b", CLASSES)
    return blobs


def reference(blobs, clip):
    """The network that the blobs are of, written down layer by layer."""
    w = {name: torch.from_numpy(np.asarray(value)) for name, value in blobs.items()}

    def norm(x, name):
        return batch_norm(x, w[f"{name}_rm"], w[f"{name}_riv"], w[f"{name}_s"], w[f"{name}_b"], eps=1e-5)

    def conv(x, name, stride=1):
        kernel = w[f"{name}_w"]
        pad = tuple(size // 2 for size in kernel.shape[2:])
        return conv3d(x, kernel, stride=(1, stride, stride), padding=pad)

    def non_local(x, name):
        theta = conv3d(x, w[f"{name}_theta_w"], w[f"{name}_theta_b"]).flatten(2)
        pooled = max_pool3d(x, (1, 2, 2))
        phi = conv3d(pooled, w[f"{name}_phi_w"], w[f"{name}_phi_b"]).flatten(2)
        g = conv3d(pooled, w[f"{name}_g_w"], w[f"{name}_g_b"]).flatten(2)
        heard = torch.einsum(
            "btp,bcp->bct", (torch.einsum("bct,bcp->btp", theta, phi) * theta.shape[1] ** -0.5).softmax(2), g
        )
        heard = heard.view(x.shape[0], -1, *x.shape[2:])
        return x + norm(conv3d(heard, w[f"{name}_out_w"], w[f"{name}_out_b"]), f"{name}_bn")

    x = (clip - 114.75) / 57.375
    x = max_pool3d(relu(norm(conv(x, "conv1", 2), "res_conv1_bn")), (1, 3, 3), (1, 2, 2))
    for stage, count in BLOCKS.items():
        for i in range(count):
            prefix, stride = f"res{stage}_{i}_branch", 2 if i == 0 and stage in (3, 4) else 1
            y = relu(norm(conv(x, f"{prefix}2a"), f"{prefix}2a_bn"))
            y = relu(norm(conv(y, f"{prefix}2b", stride), f"{prefix}2b_bn"))
            y = norm(conv(y, f"{prefix}2c"), f"{prefix}2c_bn")
            x = relu(y + (norm(conv(x, f"{prefix}1", stride), f"{prefix}1_bn") if i == 0 else x))
            if f"nonlocal_conv{stage}_{i}_g_w" in w:
                x = non_local(x, f"nonlocal_conv{stage}_{i}")
        if stage == 2:
            x = max_pool3d(x, (2, 1, 1))
    return avg_pool3d(x, x.shape[2:]).flatten(1) @ w["pred_w"].T + w["pred_b"]


def pyslowfast_names(blobs):
    """The same tensors as a PySlowFast state dict."""
    norms = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
    state = {}
    for name, value in blobs.items():
        parts = name.split("_")
        leaf = parts[-1]
        if parts[0] == "pred":
            new = "head.projection." + {"w": "weight", "b": "bias"}[leaf]
        elif name == "conv1_w":
            new = "s1.pathway0_stem.conv.weight"
        elif name.startswith("res_conv1_bn"):
            new = f"s1.pathway0_stem.bn.{norms[leaf]}"
        elif parts[0] == "nonlocal":
            place = f"s{parts[1][-1]}.pathway0_nonlocal{parts[2]}"
            new = (
                f"{place}.bn.{norms[leaf]}"
                if parts[3] == "bn"
                else f"{place}.conv_{parts[3]}." + {"w": "weight", "b": "bias"}[leaf]
            )
        else:
            branch = parts[2].removeprefix("branch")
            branch = "branch1" if branch == "1" else f"branch2.{branch[1]}"
            new = f"s{parts[0][-1]}.pathway0_res{parts[1]}.{branch}"
            new += f"_bn.{norms[leaf]}" if parts[3] == "bn" else ".weight"
        state[new] = torch.from_numpy(np.asarray(value))
        if new.endswith("running_mean"):
            state[new.replace("running_mean", "num_batches_tracked")] = torch.tensor(9)
    return state
