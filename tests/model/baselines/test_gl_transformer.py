"""GL-Transformer: its coordinates, classes and loss on motions worked out by hand, its size as published."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from core.errors import InputError
from model.baselines.gl_transformer import (
    GlTransformer,
    GlTransformerConfig,
    LinearHead,
    SpatioTemporalBlock,
    direction_class,
    displacements,
    magnitude_class,
    relative_coordinates,
)
from model.baselines.skeletons import SkeletonBatch, StepTokens, SystemLoss

# joint 1 is the centre, 0 and 2 are the left and right shoulder
TINY = GlTransformerConfig(
    frames=12,
    joints=4,
    centre=1,
    shoulders=(0, 2),
    joint_width=4,
    blocks=2,
    heads=2,
    intervals=(1, 3),
    magnitude_step_m=0.25,
    magnitudes=6,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(config: GlTransformerConfig = TINY, seed: int = 0) -> GlTransformer:
    """A network in evaluation mode whose positional tables are not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GlTransformer(config)
        for block in model.blocks:
            torch.nn.init.normal_(block.position, std=0.5)
    return model.eval()


def people(frames: int = 8, seed: int = 0, config: GlTransformerConfig = TINY) -> SkeletonBatch:
    """Three sequences: the first person leaves at the end; the second comes, goes, and padding follows; one alone."""
    joints_m = torch.randn(3, config.persons, frames, config.joints, 3, generator=seeded(seed))
    exists = torch.ones(3, config.persons, frames, dtype=torch.bool)
    exists[0, :-1, -1:] = False
    exists[1, :, 6:] = False
    exists[1:, 1:] = False
    exists[1, 1:, 2:4] = True
    return SkeletonBatch(joints_m, exists)


def turned(joints_m: torch.Tensor, yaw: float) -> torch.Tensor:
    cos, sin = math.cos(yaw), math.sin(yaw)
    return joints_m @ joints_m.new_tensor([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


# the network


def test_size_and_tokens_as_published() -> None:
    with torch.device("meta"):
        model = GlTransformer(GlTransformerConfig())
        batch = SkeletonBatch(torch.zeros(2, 2, 300, 25, 3), torch.ones(2, 2, 300, dtype=torch.bool))
        tokens = model.encode(batch)
    frame = 50 * 48
    embeddings = 2 * (3 * 48 + 48)
    spatial = 2 * 48 + (48 * 3 * 48 + 3 * 48) + (48 * 48 + 48)
    temporal = 2 * frame + (frame * 3 * frame + 3 * frame) + (frame * frame + frame)
    feed_forward = 2 * frame + (frame * 4800 + 4800) + (4800 * frame + frame)
    block = 300 * 50 * 48 + spatial + temporal + feed_forward
    closing = 2 * frame + 2 * (frame * frame + frame + 2 * frame)
    heads = 3 * (frame * 50 * 27 + 50 * 27 + frame * 50 * 16 + 50 * 16)
    assert sum(p.numel() for p in model.parameters()) == embeddings + 4 * block + closing + heads
    assert tokens.z.shape == (2, 300, 2400) and tokens.exists.shape == (2, 300) and tokens.frames == 1
    assert [block.temporal.dropping.path for block in model.blocks] == pytest.approx([0, 0.1 / 3, 0.2 / 3, 0.1])


def test_positions_are_added_before_both_attentions() -> None:
    block = SpatioTemporalBlock(TINY, 0.0).eval()
    torch.nn.init.normal_(block.position, generator=seeded())
    for silent in (block.spatial.out, block.temporal.attention.out, block.temporal.ffn[2]):
        torch.nn.init.zeros_(silent.weight)
        torch.nn.init.zeros_(silent.bias)
    x = torch.randn(2, 5, TINY.tokens, TINY.joint_width, generator=seeded(1))
    told = block(x, torch.ones(2, 5, 5, dtype=torch.bool))
    assert torch.allclose(told, x + 2 * block.position[:5])


def test_frames_skip_the_spatial_attention_one_by_one() -> None:
    block = SpatioTemporalBlock(dataclasses.replace(TINY, dropout=0.0, attention_dropout=0.0), 0.5)
    for silent in (block.temporal.attention.out, block.temporal.ffn[2]):
        torch.nn.init.zeros_(silent.weight)
        torch.nn.init.zeros_(silent.bias)
    x, allowed = torch.randn(9, 5, TINY.tokens, TINY.joint_width, generator=seeded()), torch.ones(9, 5, 5) > 0
    branch = (block.eval()(x, allowed) - x).flatten(2)
    torch.manual_seed(0)
    told = (block.train()(x, allowed) - x).flatten(2)
    skipped, doubled = (torch.isclose(told, k * branch, atol=1e-5).all(dim=-1) for k in (0, 2))
    assert (skipped ^ doubled).all()
    # a sequence has frames of both kinds, so it is not the sequence that skips
    assert (skipped.any(dim=1) & doubled.any(dim=1)).any()


def test_the_global_token_has_its_own_embedding() -> None:
    model, batch = network(), people()
    before = model.encode(batch).z
    torch.nn.init.zeros_(model.embed_global.weight)
    local = SkeletonBatch(batch.joints_m - batch.joints_m[..., 1:2, :], batch.exists)
    # without its weights the network no longer sees the path, of which alone these two differ
    assert torch.allclose(model.encode(batch).z, model.encode(local).z, atol=1e-5)
    assert not torch.allclose(before, model.encode(batch).z, atol=1e-3)


def test_one_person_and_two() -> None:
    one = dataclasses.replace(TINY, persons=1)
    model, batch = network(one), people(config=one)
    tokens = model.encode(batch)
    assert tokens.z.shape == (3, 8, 16)
    assert torch.isfinite(model.loss(batch, seeded()).total)
    with pytest.raises(InputError, match="2 people of 4 joints in at most 12 frames, given 1 of 4 in 8"):
        network().encode(batch)
    with pytest.raises(InputError, match="given 2 of 4 in 13"):
        network().loss(people(frames=13), seeded())


def test_encoding_draws_nothing_and_leaves_the_mode() -> None:
    model, batch = network(), people()
    expected = model.encode(batch).z
    state = torch.get_rng_state()
    assert torch.equal(model.train().encode(batch).z, expected)
    assert torch.equal(torch.get_rng_state(), state) and model.training


# coordinates


def test_shoulders_are_parallel_to_x_and_the_centre_tells_the_path() -> None:
    batch = people()
    x = relative_coordinates(batch.joints_m, torch.ones_like(batch.exists), 1, (0, 2))
    across = x[..., 2, :] - x[..., 0, :]
    assert torch.allclose(across[..., 1], torch.zeros(()), atol=1e-6) and (across[..., 0] > 0).all()
    raw = batch.joints_m[..., 3, :] - batch.joints_m[..., 1, :]
    assert torch.allclose(x[..., 3, :].norm(dim=-1), raw.norm(dim=-1), atol=1e-5)
    assert torch.allclose(x[..., 3, 2], raw[..., 2])
    path = batch.joints_m[..., 1, :] - batch.joints_m[:, :, :1, 1, :]
    assert torch.allclose(x[..., 1, :].norm(dim=-1), path.norm(dim=-1), atol=1e-5)
    assert torch.allclose(x[..., 1, 2], path[..., 2]) and (x[:, :, 0, 1] == 0).all()


def test_coordinates_by_hand() -> None:
    # left shoulder, centre, right shoulder, head; the right shoulder lies towards +y, so all turn by -90 degrees
    pose = torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 2.0]])
    joints_m = torch.stack([pose + torch.tensor([5.0, 6.0, 7.0]), pose + torch.tensor([5.0, 9.0, 8.0])])[None, None]
    x = relative_coordinates(joints_m, torch.ones(1, 1, 2, dtype=torch.bool), 1, (0, 2))[0, 0]
    assert x[0].tolist() == [[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, -0.5, 2.0]]
    assert x[1].tolist() == [[-1.0, 0.0, 0.0], [3.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -0.5, 2.0]]
    # one shoulder above the other: nothing to turn by
    joints_m[..., [0, 2], 1] = 0.0
    assert torch.equal(
        relative_coordinates(joints_m, torch.ones(1, 1, 2, dtype=torch.bool), 1, (0, 2))[0, 0, 0, 3],
        torch.tensor([0.5, 0.0, 2.0]),
    )


def test_local_joints_do_not_know_where_the_world_lies() -> None:
    batch = people()
    there = torch.ones_like(batch.exists)
    x = relative_coordinates(batch.joints_m, there, 1, (0, 2))
    moved_m = turned(batch.joints_m, 0.8) + torch.tensor([3.0, -2.0, 1.0])
    assert torch.allclose(relative_coordinates(moved_m, there, 1, (0, 2)), x, atol=1e-5)
    # a walk is seen by the centre's token alone
    walk_T113 = torch.arange(8.0)[:, None, None] * torch.tensor([0.1, 0.2, 0.0])
    walking = relative_coordinates(batch.joints_m + walk_T113, there, 1, (0, 2))
    assert torch.allclose(walking[..., [0, 2, 3], :], x[..., [0, 2, 3], :], atol=1e-5)
    assert (walking[:, :, 1:, 1] - x[:, :, 1:, 1]).norm(dim=-1).min() > 0.1


def test_the_path_begins_with_the_person() -> None:
    batch = people()
    exists = torch.ones_like(batch.exists)
    exists[:, 1, :3] = False
    x = relative_coordinates(batch.joints_m, exists, 1, (0, 2))
    assert (x[:, 1, :3] == 0).all() and (x[:, 1, 3, 1] == 0).all() and (x[:, 1, 4, 1] != 0).all()


# what is to be told


def test_directions_are_signs_along_the_axes() -> None:
    signs = [(x, y, z) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    lengths = torch.tensor([1e-6, 0.3, 20.0])
    told = direction_class(torch.tensor(signs, dtype=torch.float32) * lengths)
    assert told.tolist() == list(range(27))


def test_magnitudes_have_a_class_a_centimetre() -> None:
    length_m = torch.tensor([0, 1e-9, 0.0099, 0.0101, 0.0199, 0.1199, 0.1201, 0.1299, 0.1301, 0.5, 100.0])
    way_m = length_m[:, None] * torch.tensor([2 / 3, -2 / 3, 1 / 3])
    assert magnitude_class(way_m, 0.01, 16).tolist() == [0, 1, 1, 2, 2, 12, 13, 13, 14, 14, 14]
    # steps that floats hold exactly: a class begins with its lower bound, and the last begins at the 13th
    exact_m = torch.tensor([[0.25, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, -3.25], [0.0, 0.0, 3.2499]])
    assert magnitude_class(exact_m, 0.25, 16).tolist() == [2, 13, 14, 13]


def test_displacements_point_back_and_begin_at_frame_0() -> None:
    x_m = torch.tensor([0.0, 0.3, 1.0, 1.0, 0.9])[:, None] * torch.tensor([1.0, 0.0, 0.0])
    x = x_m[None, None, :, None].contiguous()
    there = torch.ones(1, 1, 5, dtype=torch.bool)
    one, three = (displacements(x, there, interval, 0.25, 6) for interval in (1, 3))
    # 13 is no direction; moving towards +x, the place before lies at -x: 12
    assert one.direction.flatten().tolist() == [13, 12, 12, 13, 14]
    assert one.magnitude.flatten().tolist() == [0, 2, 3, 0, 1]
    assert three.direction.flatten().tolist() == [13, 12, 12, 12, 12]
    assert three.magnitude.flatten().tolist() == [0, 2, 4, 4, 3]
    assert one.counted.all() and three.counted.all()


def test_absent_people_are_a_class_and_padding_is_none() -> None:
    x = torch.arange(10.0).reshape(1, 2, 5, 1, 1).expand(1, 2, 5, 2, 3).contiguous()
    exists = torch.tensor([[[True, True, True, True, False], [False, True, True, False, False]]])
    told = displacements(x, exists, 1, 0.01, 16)
    assert told.magnitude[0, :, :, 0].tolist() == [[0, 14, 14, 14, 15], [15, 0, 14, 15, 15]]
    assert told.direction[0, :, :, 1].tolist() == [[13, 0, 0, 0, 13], [13, 13, 0, 13, 13]]
    # the second person has come between frames 0 and 1: how far they went then is not known
    assert told.counted[0, :, :, 0].tolist() == [[True] * 4 + [False], [True, False, True, True, False]]


# the loss


def test_loss_of_heads_that_tell_the_same_of_everything() -> None:
    model, batch = network(), people()
    for heads in (model.direction_heads, model.magnitude_heads):
        for head in heads:
            torch.nn.init.zeros_(head.weight)
            torch.nn.init.zeros_(head.bias)
    loss = model.loss(batch, seeded())
    assert {name: part.item() for name, part in loss.parts.items()} == pytest.approx(
        {
            "direction": math.log(27),
            "direction_global": math.log(27),
            "magnitude": math.log(6),
            "magnitude_global": math.log(6),
        }
    )
    assert loss.total.item() == pytest.approx(1.05 * math.log(27) + 1.05 * math.log(6))
    # nobody moves, and the network is sure of it for joints: only the global tokens' terms are left
    still = SkeletonBatch(batch.joints_m[:, :, :1].expand(-1, -1, 8, -1, -1), torch.ones_like(batch.exists))
    for heads, classes, answer in ((model.direction_heads, 27, 13), (model.magnitude_heads, 6, 0)):
        for head in heads:
            head.bias.data.view(2, 4, classes)[:, [0, 2, 3], answer] = 100.0
    assert model.loss(still, seeded()).total.item() == pytest.approx(0.05 * math.log(27) + 0.05 * math.log(6))
    weighted = dataclasses.replace(TINY, global_weight=0.5, magnitude_weight=3.0)
    other = network(weighted)
    other.load_state_dict(model.state_dict())
    assert other.loss(still, seeded()).total.item() == pytest.approx(0.5 * math.log(27) + 1.5 * math.log(6))


def test_loss_against_numpy() -> None:
    model, batch = network(seed=3).double(), people(seed=4)
    batch = SkeletonBatch(batch.joints_m.double() * 0.3, batch.exists)
    loss, z = model.loss(batch, seeded()), model.encode(batch).z.detach().numpy()
    x = relative_coordinates(batch.joints_m, batch.exists, 1, (0, 2)).numpy()
    there = batch.exists.numpy()
    found: dict[str, list[float]] = {name: [] for name in loss.parts}
    for index, interval in enumerate(TINY.intervals):
        heads = {"direction": model.direction_heads[index], "magnitude": model.magnitude_heads[index]}
        told = {k: z @ v.weight.detach().numpy().T + v.bias.detach().numpy() for k, v in heads.items()}
        for b, p, t, j in np.ndindex(3, 2, 8, 4):
            before = max(t - interval, 0)
            if not there[b, :, t].any() or (there[b, p, t] and not there[b, p, before]):
                continue
            answer = {"direction": 13, "magnitude": 5}
            if there[b, p, t]:
                way = x[b, p, before, j] - x[b, p, t, j]
                length = float(np.sqrt((way**2).sum()))
                answer["direction"] = int(((np.sign(way) + 1) * [1, 3, 9]).sum())
                answer["magnitude"] = min(int(length / 0.25) + 1, 4) if length > 0 else 0
            for name, classes in (("direction", 27), ("magnitude", 6)):
                logits = told[name][b, t].reshape(2, 4, classes)[p, j]
                entropy = np.log(np.exp(logits).sum()) - logits[answer[name]]
                found[name if j != 1 else f"{name}_global"].append(float(entropy))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    assert {name: part.item() for name, part in loss.parts.items()} == pytest.approx(means, rel=1e-9)
    total = means["direction"] + 0.05 * means["direction_global"]
    total += means["magnitude"] + 0.05 * means["magnitude_global"]
    assert loss.total.item() == pytest.approx(total, rel=1e-9)


def test_gradient_against_finite_differences() -> None:
    model, batch = network().double(), people()
    batch = SkeletonBatch(batch.joints_m.double(), batch.exists)
    model.loss(batch, seeded()).total.backward()
    step = 1e-5
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        way = torch.randn(parameter.shape, generator=seeded(1), dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step * way)
                values.append(model.loss(batch, seeded()).total.item())
                parameter.sub_(sign * step * way)
        slope = (values[0] - values[1]) / (2 * step)
        # differences of numbers near 5 are known to about 1e-15 / 1e-5, and err by the square of the step
        assert (parameter.grad * way).sum().item() == pytest.approx(slope, rel=1e-6, abs=1e-8), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("training", [False, True])
def test_values_where_nobody_is_do_not_matter(training: bool) -> None:
    model, batch = network().train(training), people()
    garbage = torch.where(batch.exists[..., None, None], batch.joints_m, torch.nan)
    losses = []
    for joints_m in (batch.joints_m, garbage):
        torch.manual_seed(0)
        losses.append(model.loss(SkeletonBatch(joints_m, batch.exists), seeded()).total)
    assert torch.isfinite(losses[0]) and torch.equal(losses[0], losses[1])
    clean, dirty = (model.encode(SkeletonBatch(j, batch.exists)) for j in (batch.joints_m, garbage))
    assert torch.equal(clean.z, dirty.z) and torch.equal(clean.exists, batch.exists.any(dim=1))


def test_padding_changes_nothing() -> None:
    model, batch = network(), people()
    longer = SkeletonBatch(
        torch.cat([batch.joints_m, torch.full((3, 2, 4, 4, 3), 99.9)], dim=2),
        torch.cat([batch.exists, torch.zeros(3, 2, 4, dtype=torch.bool)], dim=2),
    )
    exists = batch.exists.any(dim=1)
    assert torch.allclose(model.encode(longer).z[:, :8][exists], model.encode(batch).z[exists], atol=1e-5)
    assert model.loss(longer, seeded()).total.item() == pytest.approx(model.loss(batch, seeded()).total.item())
    nobody = SkeletonBatch(batch.joints_m, torch.zeros_like(batch.exists))
    assert model.loss(nobody, seeded()).total.item() == 0.0 and torch.isfinite(model.encode(nobody).z).all()


def test_frames_and_people_attend_to_each_other() -> None:
    model, batch = network(), people()
    before = model.encode(batch).z
    # the second person is alone there
    batch.joints_m[0, 1, 7, 3] += 1.0
    changed = (model.encode(batch).z - before).abs().amax(dim=-1) > 1e-4
    assert changed[0].all() and not changed[1:].any()


def test_the_same_seeds_give_the_same_loss() -> None:
    model, batch = network().train(), people()

    def loss(layers: int, augmentation: int) -> SystemLoss:
        torch.manual_seed(layers)
        return model.loss(batch, seeded(augmentation))

    assert torch.equal(loss(0, 0).total, loss(0, 0).total)
    assert loss(0, 0).total != loss(1, 0).total and loss(0, 0).total != loss(0, 1).total
    model.eval()
    assert torch.equal(loss(0, 0).total, loss(1, 1).total)


def test_a_batch_is_learned_by_heart() -> None:
    config = dataclasses.replace(TINY, dropout=0.0, attention_dropout=0.0, drop_path=0.0, shear=0.0, resample=0.0)
    model, batch = network(config).train(), people()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = model.loss(batch, seeded()).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


# linear evaluation


def test_linear_head_reads_the_mean_of_the_frames_that_exist() -> None:
    head = LinearHead(2, 3)
    z = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [torch.nan, 7.0]], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]])
    exists = torch.tensor([[True, True, False], [False, False, False]])
    expected = head.linear(torch.tensor([[2.0, 4.0], [0.0, 0.0]]))
    assert torch.allclose(head(StepTokens(z, exists, 1)), expected)
