"""Motion codes of a stream against those of the whole recording."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_codes import network, part, skeletons

from model.baselines.motion_codes import CodeStream, MotionCodes
from model.baselines.skeletons import SkeletonBatch


def clear(model: MotionCodes, batch: SkeletonBatch) -> torch.Tensor:
    """Frames (B, P, T) whose nearest code is nearer than the second by more than rounding."""
    with torch.no_grad():
        x, exists = model._frames(batch)
        z = model.encoder(model.embed(x), exists)[0]
    nearest = torch.cdist(z, model.codebook.detach()).topk(2, largest=False).values
    return ((nearest[..., 1] - nearest[..., 0]) > 1e-4).view(batch.exists.shape)


@settings(max_examples=12)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 2, 10, 100]),
    st.lists(st.integers(0, 90), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.2]),
)
def test_stream_is_the_whole(seed: int, frames: int, pieces: list[int], gaps: float) -> None:
    model = network(frames=frames)
    batch = skeletons(seed, 2, 2, max(1, sum(pieces)), gaps=gaps)
    same_stream(model, batch, [*pieces, 1] if sum(pieces) == 0 else pieces)


@pytest.mark.parametrize(("frames", "piece"), [(10, 1), (100, 7), (100, 1000)])
def test_stream_is_the_whole_past_the_receptive_field(frames: int, piece: int) -> None:
    model = network(frames=frames, encoder_layers=6)
    length = model.config.receptive_frames + 150
    sizes = [min(piece, length - start) for start in range(0, length, piece)]
    same_stream(model, skeletons(13, 1, 1, length, gaps=0.05), sizes)


def same_stream(model: MotionCodes, batch: SkeletonBatch, sizes: list[int]) -> None:
    """Pushes a batch in pieces of these sizes and compares with the whole."""
    stream, found, start = CodeStream(model), [], 0
    for size in sizes:
        found.append(stream.push(part(batch, start, start + size)))
        start += size
    assert start == batch.exists.shape[2]
    tokens = model.encode(batch)
    assert torch.allclose(torch.cat([f.tokens.z for f in found], dim=1), tokens.z, atol=1e-5)
    assert torch.equal(torch.cat([f.tokens.exists for f in found], dim=1), tokens.exists)
    codes, expected = torch.cat([f.codes for f in found], dim=2), model.codes(batch)
    sure = clear(model, batch) | ~batch.exists
    assert torch.equal(codes[sure], expected[sure])
    assert (~sure).sum() <= 3 + 0.02 * sure.numel()  # few are excused


@pytest.mark.parametrize("frames", [1, 4, 30])
def test_memory_of_a_stream_is_bounded_by_the_width(frames: int) -> None:
    model = network(frames=frames)
    stream, batch = CodeStream(model), skeletons(14, 1, 2, 200)
    for start in range(0, 200, 20):
        stream.push(part(batch, start, start + 20))
        past = stream._past
        assert past is not None
        # two people, two layers, keys and values of 16 channels of four bytes; what is behind the views counts
        held = sum(keys_values.untyped_storage().nbytes() for keys_values in past.keys_values)
        assert held == 2 * 2 * (frames - 1) * 32 * 4
        assert past.exists.untyped_storage().nbytes() == 2 * (frames - 1)
