"""What others call the layers of ResNet-50 video networks, and what we do; None for a name with no counterpart."""

from __future__ import annotations

import re

_CONVS = {"a": "1", "b": "2", "c": "3"}
_CAFFE2 = {"w": "weight", "b": "bias"}
_CAFFE2_NORM = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
_NORM = r"(weight|bias|running_mean|running_var)"


def from_caffe2(name: str) -> str | None:
    """Our name of one of video-nonlocal-net's blobs."""
    if found := re.fullmatch(r"pred_([wb])", name):
        return f"classifier.{_CAFFE2[found[1]]}"
    if name == "conv1_w":
        return "backbone.conv1.weight"
    if found := re.fullmatch(r"res_conv1_bn_(s|b|rm|riv)", name):
        return f"backbone.bn1.{_CAFFE2_NORM[found[1]]}"
    if found := re.fullmatch(r"(res[2-5])_(\d+)_branch(1|2[abc])(_bn)?_(w|s|b|rm|riv)", name):
        stage, index, branch, norm, leaf = found.groups()
        if (norm is None) != (leaf == "w"):
            return None
        return f"backbone.{stage}.{index}.{_layer(branch, bool(norm))}.{_CAFFE2_NORM[leaf] if norm else 'weight'}"
    if found := re.fullmatch(r"nonlocal_conv(\d)_(\d+)_(theta|phi|g|out)_([wb])", name):
        return f"backbone.non_local.res{found[1]}_{found[2]}.{found[3]}.{_CAFFE2[found[4]]}"
    if found := re.fullmatch(r"nonlocal_conv(\d)_(\d+)_bn_(s|b|rm|riv)", name):
        return f"backbone.non_local.res{found[1]}_{found[2]}.norm.{_CAFFE2_NORM[found[3]]}"
    return None


def from_pyslowfast(name: str) -> str | None:
    """Our name of one of PySlowFast's tensors, in a network of one pathway."""
    if found := re.fullmatch(r"head\.projection\.(weight|bias)", name):
        return f"classifier.{found[1]}"
    if name == "s1.pathway0_stem.conv.weight":
        return "backbone.conv1.weight"
    if found := re.fullmatch(rf"s1\.pathway0_stem\.bn\.{_NORM}", name):
        return f"backbone.bn1.{found[1]}"
    if found := re.fullmatch(rf"s([2-5])\.pathway0_res(\d+)\.branch(1|2\.[abc])(_bn)?\.{_NORM}", name):
        stage, index, branch, norm, leaf = found.groups()
        if norm is None and leaf != "weight":
            return None
        return f"backbone.res{stage}.{index}.{_layer(branch.replace('.', ''), bool(norm))}.{leaf}"
    if found := re.fullmatch(r"s([2-5])\.pathway0_nonlocal(\d+)\.conv_(theta|phi|g|out)\.(weight|bias)", name):
        return f"backbone.non_local.res{found[1]}_{found[2]}.{found[3]}.{found[4]}"
    if found := re.fullmatch(rf"s([2-5])\.pathway0_nonlocal(\d+)\.(?:bn|norm)\.{_NORM}", name):
        return f"backbone.non_local.res{found[1]}_{found[2]}.norm.{found[3]}"
    return None


def _layer(branch: str, norm: bool) -> str:
    """Our layer of a branch: "1" is the shortcut, "2a" to "2c" are the convolutions."""
    if branch == "1":
        return f"downsample.{int(norm)}"
    return ("bn" if norm else "conv") + _CONVS[branch[1]]


def from_torchvision(name: str) -> str | None:
    """Our name of one of torchvision's ResNet-50."""
    if found := re.fullmatch(r"fc\.(weight|bias)", name):
        return f"classifier.{found[1]}"
    if found := re.fullmatch(rf"(conv1\.weight|bn1\.{_NORM})", name):
        return f"backbone.{found[1]}"
    if found := re.fullmatch(r"layer([1-4])\.(.+)", name):
        return f"backbone.res{int(found[1]) + 1}.{found[2]}"
    return None
