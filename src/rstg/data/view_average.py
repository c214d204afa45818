"""One prediction a video: the mean over its views, each of which counts once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rstg.errors import check_choice


class ViewAverage:
    """Collects outputs of views and averages them by video; refuses a view that comes twice or not at all.

    Args:
        videos, views: How many videos, and views of each. classes: Of the outputs.
        over: "logits", as the authors, or "probabilities": the mean of their softmax.
    """

    def __init__(self, videos: int, views: int, classes: int, over: str = "logits") -> None:
        check_choice("over", over, ("logits", "probabilities"))
        self.over = over
        self.sums = torch.zeros(videos, classes, dtype=torch.float64)
        self.seen = torch.zeros(videos, views, dtype=torch.bool)

    def add(self, video: Int[Tensor, b], view: Int[Tensor, b], logits: Float[Tensor, "b c"]) -> None:
        """Take the logits of views: numbers of their videos, and of the views among those of a video.

        Raises:
            ValueError: if a view was there already, a number is out of range, or logits are not finite.
        """
        video, view, found = video.cpu().long(), view.cpu().long(), logits.detach().cpu().double()
        videos, views = self.seen.shape
        if len(video) != len(view) or found.shape != (len(video), self.sums.shape[1]):
            shapes = f"{len(video)} videos, {len(view)} views and logits of shape {tuple(found.shape)}"
            raise ValueError(f"{shapes} do not go together (classes: {self.sums.shape[1]})")
        if len(video) and (video.min() < 0 or video.max() >= videos or view.min() < 0 or view.max() >= views):
            raise ValueError(f"there are {videos} videos of {views} views, and others were given")
        if not found.isfinite().all():
            raise ValueError(f"the logits of video {int(video[~found.isfinite().all(1)][0])} are not finite")
        numbers = video * views + view
        again = self.seen.flatten()[numbers]
        alone, counts = numbers.unique(return_counts=True)
        if again.any() or (counts > 1).any():
            first = int(numbers[again][0] if again.any() else alone[counts > 1][0])
            raise ValueError(f"view {first % views} of video {first // views} was given twice")
        self.seen.view(-1)[numbers] = True
        self.sums.index_add_(0, video, found.softmax(1) if self.over == "probabilities" else found)

    def merge(self, other: ViewAverage) -> None:
        """Take what another process collected.

        Raises:
            ValueError: if both have a view, or they average different things.
        """
        if (self.seen.shape, self.sums.shape, self.over) != (other.seen.shape, other.sums.shape, other.over):
            raise ValueError("these are averages of different sets")
        both = (self.seen & other.seen).nonzero()
        if len(both):
            raise ValueError(f"view {int(both[0, 1])} of video {int(both[0, 0])} was given twice, by two processes")
        self.seen |= other.seen
        self.sums += other.sums

    def result(self) -> Float[Tensor, "videos classes"]:
        """Mean over the views of each video.

        Raises:
            ValueError: if a view is missing.
        """
        missing = (~self.seen).nonzero()
        if len(missing):
            raise ValueError(
                f"{len(missing)} of {self.seen.numel()} views are missing, the first is view {int(missing[0, 1])} of "
                f"video {int(missing[0, 0])}"
            )
        return (self.sums / self.seen.shape[1]).float()
