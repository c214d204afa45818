"""The graph written with loops over clips, frames, nodes, heads and edges, in the paper's words: slow and obvious.

It reads a block's options and weights, and shares no code with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

Frames = list[list[Tensor]]


def boxes_of(scales):
    return [(s, r, c) for s in scales for r in range(s) for c in range(s)]


def near(a, b):
    """Rectangles that overlap or touch along a side; fractions of the frame, cross-multiplied."""
    (s, r, c), (q, u, v) = a, b
    height = min((r + 1) * q, (u + 1) * s) - max(r * q, u * s)
    width = min((c + 1) * q, (v + 1) * s) - max(c * q, v * s)
    return a != b and height >= 0 and width >= 0 and height + width > 0


def pooled(frame: Tensor, box, moments: bool) -> Tensor:
    """Exact-area mean: enlarge the map so that the region is a whole number of pixels; and first moments."""
    s, r, c = box
    h, w = frame.shape[1:]
    region = frame.repeat_interleave(s, 1).repeat_interleave(s, 2)[:, r * h : (r + 1) * h, c * w : (c + 1) * w]
    mean = region.mean((1, 2))
    if not moments:
        return mean
    # Where each pixel's centre lies, in half sizes of the region from its centre.
    y = [((r * h + i) // s + 0.5 - (r + 0.5) * h / s) / (h / s / 2) for i in range(h)]
    x = [((c * w + i) // s + 0.5 - (c + 0.5) * w / s) / (w / s / 2) for i in range(w)]
    along_x, along_y = frame.new_tensor(x), frame.new_tensor(y).unsqueeze(1)
    return torch.cat([mean, (region * along_x).mean((1, 2)), (region * along_y).mean((1, 2))])


def standard(values: Tensor, eps: float) -> Tensor:
    return (values - values.mean()) / torch.sqrt(((values - values.mean()) ** 2).mean() + eps)


def normalised(module, kind: str, frames: Frames, over_clip: bool = False) -> Frames:
    if kind == "none" or not frames[0]:
        return frames
    if kind == "batch":
        scale = module.weight / torch.sqrt(module.running_var + 1e-3)
        return [[(v - module.running_mean) * scale + module.bias for v in frame] for frame in frames]
    if kind == "layer":
        return [[standard(v, 1e-5) * module.weight + module.bias for v in frame] for frame in frames]
    if kind == "layer_clip" and over_clip:
        whole = standard(torch.stack([torch.stack(frame) for frame in frames]), 1e-12)
        return [list(frame * module.weight + module.bias) for frame in whole]
    return [list(standard(torch.stack(frame), 1e-12) * module.weight + module.bias) for frame in frames]


def where_it_is(create, level: int, value: Tensor) -> tuple[Tensor, Tensor]:
    """Centroid (2, C) of each channel in its region, and how much of the channel there is."""
    mean, *first = value.chunk(3)
    usual = create.features.mean_scale.square[level, 0].sqrt()
    size = mean.abs() / usual
    centroid = torch.stack([(m / usual / (size + 0.01)).clamp(-1, 1) for m in first])
    return centroid, size / (size + 0.3)


def described(create, level: int, now: Tensor, before: Tensor) -> Tensor:
    """What a node is told: every kind of feature, divided by its usual size."""
    if not create.moments and not create.motion:
        return now
    kinds = list(now.chunk(3 if create.moments else 1))
    if create.motion:
        kinds += [after - earlier for after, earlier in zip(kinds, before.chunk(len(kinds)), strict=True)]
    if create.moments:
        (centroid, present), (earlier, was_present) = (where_it_is(create, level, value) for value in (now, before))
        kinds += list(centroid * present)
        if create.motion:
            kinds += list((centroid - earlier) * torch.minimum(present, was_present))
    usual = create.features.scale.square[level].sqrt()
    return torch.cat([kind / size for kind, size in zip(kinds, usual, strict=True)])


def created(block, clip: Tensor) -> Frames:
    create, boxes = block.create_nodes, boxes_of(block.scales)
    raw = [[pooled(frame, box, create.moments) for box in boxes] for frame in clip.unbind(1)]
    levels = [sorted(block.scales, reverse=True).index(box[0]) for box in boxes]
    frames = [
        [
            create.project(described(create, level, value, raw[max(t - 1, 0)][i]))
            for i, (level, value) in enumerate(zip(levels, frame, strict=True))
        ]
        for t, frame in enumerate(raw)
    ]
    return normalised(create.norm, block.input_norm, frames, over_clip=True)


def remembered(stage, frames: Frames) -> Frames:
    """The recurrent cell's equations, node by node."""
    rnn = stage.rnn
    out = [[] for _ in frames]
    for i in range(len(frames[0])):
        hidden = cell = torch.zeros_like(frames[0][i])
        for t, frame in enumerate(frames):
            given = rnn.weight_ih_l0 @ frame[i] + rnn.bias_ih_l0
            kept = rnn.weight_hh_l0 @ hidden + rnn.bias_hh_l0
            if stage.cell == "lstm":
                enter, forget, new, leave = (given + kept).chunk(4)
                cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
                hidden = torch.sigmoid(leave) * torch.tanh(cell)
            else:
                (reset, update, new), (kept_reset, kept_update, kept_new) = given.chunk(3), kept.chunk(3)
                update = torch.sigmoid(update + kept_update)
                new = torch.tanh(new + torch.sigmoid(reset + kept_reset) * kept_new)
                hidden = (1 - update) * new + update * hidden
            out[t].append(frame[i] + hidden if stage.residual else hidden)
    return out


def attention_of(attend, kind, soft, head, target, sources, adjacent, exists):
    """Weights (M,) of one head over all sources of one node; 0 where there is no message."""
    logits = []
    for source, beside in zip(sources, adjacent, strict=True):
        if kind == "none":
            logits.append(target.new_zeros(()))
            continue
        query, key = attend.query(target), attend.key(source)
        if kind == "additive":
            pair = query[0] + key[0]
            raw = beside * pair if soft else pair
            raw = raw if raw > 0 else 0.2 * raw
            logits.append(raw + float(beside) if soft else raw)
        else:
            width = len(query) // attend.heads
            own = slice(head * width, (head + 1) * width)
            logits.append((query[own] @ key[own]) * (float(beside) if soft else 1.0))
    heard = [exists[j] and (soft or adjacent[j]) for j in range(len(sources))]
    if not any(heard):
        return target.new_zeros(len(sources))
    shares = iter(torch.softmax(torch.stack([e for e, on in zip(logits, heard, strict=True) if on]), 0))
    return torch.stack([next(shares) if on else target.new_zeros(()) for on in heard])


def space(block, norm: str, frames: Frames, homogeneous: bool) -> tuple[Frames, Tensor]:
    stage, boxes = block.space, boxes_of(block.scales)
    attend, kind = stage.gather.attention, stage.gather.attention.kind
    soft, on_sums = attend.neighbours == "soft", stage.send.on_sums
    count = len(boxes)
    adjacent = [[near(a, b) for b in boxes] + [True] * (count if homogeneous else 0) for a in boxes]
    place = [frames[0][0].new_zeros(0)] * count if stage.send.positions is None else list(stage.send.positions)
    place = place + place
    sums: list[list[list[Tensor]]] = []
    attention = []
    for t, frame in enumerate(frames):
        sources = list(frame)
        if homogeneous:
            sources += frames[t - 1] if t else [torch.zeros_like(v) for v in frame]
        exists = [j < count or t > 0 for j in range(len(sources))]
        pairs, messages = [], []
        for i, target in enumerate(frame):
            for j, source in enumerate(sources):
                if soft or adjacent[i][j]:
                    pair = torch.cat([source, place[j], target, place[i]])
                    pairs.append((i, j))
                    hidden = torch.relu(stage.send.first(pair))
                    messages.append(hidden if on_sums else torch.relu(stage.send.second(hidden)))
        if not on_sums:
            messages = normalised(stage.send.norm, norm, [messages])[0]
        message = dict(zip(pairs, messages, strict=True))
        heads, seen = [], []
        for i, target in enumerate(frame):
            parts, weights = [], []
            for head in range(attend.heads):
                weight = attention_of(attend, kind, soft, head, target, sources, adjacent[i], exists)
                weights.append(weight)
                gathered = target.new_zeros(stage.send.second.out_features)
                for j, w in enumerate(weight):
                    if (i, j) in message:
                        gathered = gathered + w * message[i, j]
                parts.append(torch.relu(stage.send.second(gathered)) if on_sums else gathered)
            heads.append(parts)
            seen.append(torch.stack(weights).mean(0))
        if on_sums:
            # The norm sees all sums of a frame, as it would see its messages.
            flat = iter(normalised(stage.send.norm, norm, [[v for parts in heads for v in parts]])[0])
            heads = [[next(flat) for _ in parts] for parts in heads]
        row = []
        for parts in heads:
            if stage.gather.project is not None:
                parts = [project(part) for project, part in zip(stage.gather.project, parts, strict=True)]
            row.append(torch.cat(parts) + stage.gather.bias)
        sums.append(row)
        attention.append(torch.stack(seen))
    if kind == "additive":
        sums = normalised(stage.gather.norm, norm, sums)
    out = []
    for frame, row in zip(frames, sums, strict=True):
        new = []
        for i, (old, gathered) in enumerate(zip(frame, row, strict=True)):
            mlps = stage.update.mlps
            mlp = mlps[block.scales.index(boxes[i][0])] if len(mlps) > 1 else mlps[0]
            value = mlp(torch.cat([old, torch.relu(gathered)]))
            new.append(old + value if stage.update.residual else value)
        out.append(new)
    return normalised(stage.update.norm, norm, out), torch.stack(attention)


def as_map(frame: list[Tensor], scales, height: int, width: int) -> Tensor:
    """Each pixel is the area mean of what lies under it, scale by scale, summed."""
    out = frame[0].new_zeros(len(frame[0]), height, width)
    at = 0
    for s in scales:
        grid = torch.stack(frame[at : at + s * s]).T.reshape(-1, s, s)
        fine = grid.repeat_interleave(height, 1).repeat_interleave(width, 2)
        out += fine.reshape(-1, height, s, width, s).mean((2, 4))
        at += s * s
    return out


def slow_graph(block, x: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """Output and attention (K, B, T, N, M) of a block in eval mode, whose option `norm` was that."""
    outs, attentions = [], []
    homogeneous = not hasattr(block, "schedule")
    schedule = "space" if homogeneous else block.schedule
    for clip in x:
        frames = created(block, clip)
        seen = []
        for k in range(block.iterations):
            if schedule in ("all", "time") and k < block.inner_time_stages:
                frames = remembered(block.time, frames)
            if schedule != "time":
                frames, attention = space(block, norm, frames, homogeneous)
                seen.append(attention)
        if schedule != "space":
            frames = remembered(block.final_time, frames)
        frames = [[block.project_out(v) for v in frame] for frame in frames]
        if block.output == "map":
            outs.append(torch.stack([as_map(f, block.scales, *clip.shape[2:]) for f in frames], 1))
        elif block.readout == "last":
            outs.append(torch.stack(frames[-1]).sum(0))
        else:
            outs.append(torch.stack([torch.stack(f).sum(0) for f in frames]).mean(0))
        if seen:
            attentions.append(torch.stack(seen))
    return torch.stack(outs), torch.stack(attentions, 1) if attentions else torch.zeros(0)
