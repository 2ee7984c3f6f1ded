"""The networks of the dense-prediction tables.

Shapes, sizes, shared layers, determinism, and one pass per step.
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import pcgrad
from multitask.models.dense_networks import (
    ARCHITECTURES,
    build,
    count_parameters,
    relative_parameters,
)
from multitask.models.segnet import WIDTHS, pool, unpool
from multitask.models.split import Split
from multitask.runs.errors import UserError
from multitask.runs.seeding import generator, initialization

HEADS = {"segmentation": 13, "depth": 1, "normal": 3}
STREETS = {"segmentation": 7, "depth": 1}
NARROW = (8, 16, 32, 64, 64)
SHARING = ("split_wide", "split_deep", "dense", "cross_stitch", "mtan")
# #P at full width: three tasks (NYUv2), two tasks (CityScapes); the paper's Tables 8 and 7.
MEASURED = {
    "one_task": (2.9999, 2.0000),
    "stan": (4.5857, 3.0572),
    "split_wide": (1.7587, 1.7572),
    "split_deep": (2.0339, 2.0324),
    "dense": (4.9517, 3.6330),
    "cross_stitch": (2.9999, 2.0000),
    "mtan": (1.7705, 1.6496),
}
PAPER = {
    "one_task": (3, 2),
    "stan": (4.56, 3.04),
    "split_wide": (1.75, 1.75),
    "split_deep": (2, 2),
    "dense": (4.95, 3.63),
    "cross_stitch": (3, 2),
    "mtan": (1.77, 1.65),
}


@pytest.fixture(autouse=True)
def as_in_a_run():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def network(architecture, heads=HEADS):
    with initialization(0):
        return build(architecture, heads, NARROW)


def images(batch=2, height=32, width=64):
    return torch.rand(batch, 3, height, width, generator=generator(0, "images"))


def task_losses(outputs, sign=1):
    """One scalar per task; `sign` turns the second task's gradient around, so that one of the signs
    is a conflict.
    """
    draw = generator(0, "targets")
    losses = [(out * torch.randn(out.shape, generator=draw)).mean() for out in outputs]
    return [sign * loss if k == 1 else loss for k, loss in enumerate(losses)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_come_in_the_tasks_order_with_unit_normals(architecture):
    model = network(architecture).eval()
    outputs = model(images(2, 64, 96))
    assert [tuple(out.shape) for out in outputs] == [
        (2, channels, 64, 96) for channels in HEADS.values()
    ]
    assert all(out.isfinite().all() for out in outputs)
    lengths = outputs[2].square().sum(1).sqrt()
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    assert outputs[0].exp().sum(1).sub(1).abs().max() > 0.1  # logits, not log-probabilities
    swapped = network(architecture, {"normal": 3, "segmentation": 13})(images())
    assert [out.shape[1] for out in swapped] == [3, 13]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sizes_are_those_of_the_paper(architecture):
    for column, heads in enumerate((HEADS, STREETS)):
        relative = relative_parameters(architecture, heads)
        assert relative == pytest.approx(MEASURED[architecture][column], abs=6e-5)
        assert relative == pytest.approx(PAPER[architecture][column], rel=0.02)
    assert relative_parameters(architecture, HEADS, NARROW) == pytest.approx(
        MEASURED[architecture][0], rel=0.01
    )


def test_one_segnet_is_as_large_as_the_base_code_says():
    with torch.device("meta"):
        assert count_parameters(Split({"segmentation": 13}, WIDTHS)) == 24_981_069


def reached_by(model):
    """Per parameter name, the tasks whose loss has a gradient for it that is not zero everywhere in
    the weights.
    """
    losses = task_losses(model(images()))
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = {name: set() for name in names}
    for task, loss in enumerate(losses):
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                found[name].add(task)
                assert gradient.dim() < 4 or gradient.any(), (name, task)
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "heads", [HEADS, STREETS, {"depth": 1}], ids=["3 tasks", "2 tasks", "1 task"]
)
def test_shared_are_exactly_the_parameters_that_several_losses_reach(architecture, heads):
    model = network(architecture, heads)
    found = reached_by(model)
    listed = {id(parameter) for parameter in model.shared_parameters()}
    shared = {name for name, parameter in model.named_parameters() if id(parameter) in listed}
    assert len(shared) == len(model.shared_parameters())
    assert shared == {name for name, tasks in found.items() if len(tasks) > 1}
    assert all(found[name] == set(range(len(heads))) for name in shared)  # by all tasks, then
    assert all(found.values())  # no parameter that nothing trains
    assert bool(shared) == (architecture in SHARING and len(heads) > 1)


@pytest.mark.parametrize("architecture", SHARING)
def test_own_parameters_get_their_plain_gradient(architecture):
    conflicts = 0
    for sign in (1, -1):
        plain, model = network(architecture), network(architecture)
        sum(task_losses(plain(images()), sign)).backward()
        losses = task_losses(model(images()), sign)
        result = pcgrad.backward(losses, model.shared_parameters(), generator=generator(0, "order"))
        shared = {id(parameter) for parameter in model.shared_parameters()}
        pairs = list(zip(plain.parameters(), model.parameters(), strict=True))
        own = [torch.equal(a.grad, b.grad) for a, b in pairs if id(b) not in shared]
        assert own
        assert all(own)
        if (result.gramian < 0).any():
            conflicts += 1
            assert not any(
                torch.equal(a.grad, b.grad) for a, b in pairs if id(b) in shared and b.dim() == 4
            )
    assert conflicts


@pytest.mark.parametrize("architecture", SHARING)
def test_batch_norm_moves_once_per_step(architecture):
    plain, model = network(architecture), network(architecture)
    sum(task_losses(plain(images()))).backward()
    pcgrad.backward(
        task_losses(model(images())), model.shared_parameters(), generator=generator(0, "order")
    )
    buffers = dict(plain.named_buffers())
    assert all(torch.equal(buffers[name], value) for name, value in model.named_buffers())
    counts = {
        name: value.item()
        for name, value in model.named_buffers()
        if name.endswith("num_batches_tracked")
    }
    extractors = {
        name: count for name, count in counts.items() if name.startswith(("down.", "up."))
    }
    assert set(extractors.values()) == (
        {len(HEADS)} if architecture == "mtan" else set()
    )  # in one forward pass
    assert {count for name, count in counts.items() if name not in extractors} == {1}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_is_the_same_bit_for_bit_when_repeated(architecture):
    gradients = []
    for _ in range(2):
        model = network(architecture)
        sum(task_losses(model(images()))).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_initial_values_are_xavier_with_zero_biases():
    for architecture, kurtosis in (
        ("mtan", 3),
        ("dense", 1.8),
        ("cross_stitch", 1.8),
    ):  # normal, uniform, uniform
        weights = [
            m.weight
            for m in network(architecture).modules()
            if isinstance(m, nn.Conv2d) and m.out_channels > 8
        ]
        units = []
        for weight in weights:
            fan_in, fan_out = weight[0].numel(), weight[:, 0].numel()
            units.append(weight.detach().flatten() * math.sqrt((fan_in + fan_out) / 2))
        values = torch.cat(units)
        assert values.var().item() == pytest.approx(1, rel=0.02)
        assert values.pow(4).mean().item() == pytest.approx(kurtosis, rel=0.05)
        biases = [m.bias for m in network(architecture).modules() if isinstance(m, nn.Conv2d)]
        assert not any(bias.any() for bias in biases)


def test_unpooling_is_torchs_own():
    maps = torch.randn(2, 5, 8, 12, generator=generator(0, "maps"), requires_grad=True)
    weights = torch.randn(2, 5, 8, 12, generator=generator(0, "weights"))
    results = []
    for form in (unpool, lambda x, indices: functional.max_unpool2d(x, indices, 2)):
        torch.use_deterministic_algorithms(form is unpool)
        restored = form(*pool(maps))
        (gradient,) = torch.autograd.grad((restored * weights).sum(), maps)
        results.append((restored, gradient))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert results[0][0].ne(0).sum() == 2 * 5 * 4 * 6


def set_masks(model, value):
    for attention in model.attention:
        for part in (*attention.encoder, *attention.decoder):
            nn.init.zeros_(part[4].weight)
            nn.init.constant_(part[4].bias, value)


def test_open_masks_pass_the_trunks_features_and_closed_ones_nothing():
    model = network("mtan")
    set_masks(model, 100.0)
    features = model.trunk(images()).decoded[-1]
    assert all(
        torch.equal(out, head(features))
        for out, head in zip(model(images()), model.heads, strict=True)
    )
    set_masks(model, -200.0)
    nothing = torch.zeros_like(features)
    assert all(
        torch.equal(out, head(nothing))
        for out, head in zip(model(images()), model.heads, strict=True)
    )


def test_stitches_weigh_the_tasks_networks():
    model = network("cross_stitch")
    with torch.no_grad():
        model.stitches[:, 1] = 0
    sum(task_losses(model(images()))).backward()
    first, muted, _ = (trunk.encoder[2].layers[0][0].weight.grad for trunk in model.networks)
    assert first.any()
    assert not muted.any()
    assert model.networks[1].decoder[-1].layers[0][0].weight.grad.any()  # behind the last stitch
    assert (model.stitches.grad != 0).all()


def test_dense_branches_see_the_shared_trunk():
    model = network("dense").eval()
    before = model(images())
    with torch.no_grad():
        model.trunk.decoder[3].layers[-1][1].bias += 1
    assert all(not torch.equal(a, b) for a, b in zip(before, model(images()), strict=True))


def test_faults_name_the_remedy():
    with pytest.raises(
        UserError, match="48x64 do not fit SegNet; set height and width to multiples of 32"
    ):
        network("mtan")(images(2, 48, 64))
    with pytest.raises(UserError, match="48x64"):
        network("cross_stitch")(images(2, 48, 64))
