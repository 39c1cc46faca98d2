"""Streams: decoders whose layers take several versions of every token's hidden state at once (Gemma 3n's AltUp).

To pruning they are one hidden state, side by side: whatever is gathered, scored or merged is so in every stream.
"""

from torch import Tensor


def joined(hidden: Tensor, n_streams: int) -> Tensor:
    """(streams, batch, slots, width) -> (batch, slots, streams x width); of one stream `hidden` itself."""
    return hidden if n_streams == 1 else hidden.permute(1, 2, 0, 3).flatten(2)


def parted(hidden: Tensor, n_streams: int) -> Tensor:
    """The way back."""
    return (
        hidden if n_streams == 1 else hidden.reshape(*hidden.shape[:2], n_streams, -1).permute(2, 0, 1, 3).contiguous()
    )
