"""The non-local block: every place of a clip's map looks at every other."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from rstg.errors import check_choice

LAYOUTS: tuple[str, ...] = ("positions", "interleaved")


class NonLocalBlock(nn.Module):
    """Attention of every place of a clip's map over all places and frames, added to the map.

    y = x + norm(W_out (softmax(theta(x)^T phi(x) / sqrt(d)) g(x)))

    phi and g see the map after a 1x2x2 max pool; the norm's gain starts at zero, so that the block starts
    as the identity.

    Args:
        channels: Channels of the map; theta, phi and g have half as many.
        layout: "positions": one query a place, as in the paper by Wang et al. "interleaved": what the first
            public version of the RSTG authors' code computes; it reshapes a map that is stored with channels
            last to (channels, places) as if channels came first, so that one query mixes channels of
            several places. For checkpoints that were trained so.
        norm: Builds the norm of the output from the number of channels.

    Shapes:
        (B, channels, T, H, W) -> the same, with H, W >= 2. Memory of the attention grows with (T H W)^2 where
        no fused kernel takes it.

    Raises:
        ValueError: for an unknown layout.

    Source: Wang et al., "Non-local Neural Networks", CVPR 2018, section 3.3, embedded Gaussian.
    """

    def __init__(
        self, channels: int, layout: str = "positions", norm: Callable[[int], nn.Module] = nn.BatchNorm3d
    ) -> None:
        super().__init__()
        check_choice("layout", layout, LAYOUTS)
        self.layout = layout
        inner = channels // 2
        self.theta = nn.Conv3d(channels, inner, 1)
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.phi = nn.Conv3d(channels, inner, 1)
        self.g = nn.Conv3d(channels, inner, 1)
        self.out = nn.Conv3d(inner, channels, 1)
        self.norm = norm(channels)
        for conv in (self.theta, self.phi, self.g, self.out):
            nn.init.normal_(conv.weight, std=0.01)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        gain = self.norm.weight
        assert isinstance(gain, Tensor)
        nn.init.zeros_(gain)

    def _rows(self, x: Tensor) -> Tensor:
        """Queries, keys or values (B, 1, places, d) of a map."""
        if self.layout == "interleaved":
            return x.permute(0, 2, 3, 4, 1).reshape(x.shape[0], 1, x.shape[1], -1).transpose(2, 3)
        return x.flatten(2).transpose(1, 2).unsqueeze(1)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Return the map plus what its places heard."""
        pooled = self.pool(x)
        heard = nn.functional.scaled_dot_product_attention(
            self._rows(self.theta(x)), self._rows(self.phi(pooled)), self._rows(self.g(pooled))
        )
        batch, _, time, height, width = x.shape
        columns = heard.transpose(2, 3)
        if self.layout == "interleaved":
            volume = columns.reshape(batch, time, height, width, -1).permute(0, 4, 1, 2, 3)
        else:
            volume = columns.reshape(batch, -1, time, height, width)
        return x + self.norm(self.out(volume))
