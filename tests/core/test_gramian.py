"""The Gramian and the weighted sum: block by block, in full precision, with any settings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import pcgrad
from pcgrad._gramian import PIECE


def blocks_of(tasks: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (4,), (), (2, 1, 3)]
    return [
        torch.randn(tasks, *shape, generator=random, dtype=torch.float64).to(dtype)
        for shape in shapes
    ]


def flat(blocks: list[Tensor]) -> Tensor:
    return torch.cat([block.double().reshape(len(block), -1) for block in blocks], 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_gramian_is_that_of_the_whole_vectors(dtype: torch.dtype) -> None:
    blocks = blocks_of(5, dtype)
    exact = flat(blocks) @ flat(blocks).T
    found = pcgrad.gramian(blocks)
    assert found.dtype == torch.float64
    tolerance = (
        1e-14 if dtype == torch.float64 else 1e-6
    )  # not that of half precision: products are upcast
    assert (found - exact).abs().max() <= tolerance * exact.diagonal().max()
    assert torch.equal(found, found.T)
    assert torch.equal(pcgrad.gramian({str(k): block for k, block in enumerate(blocks)}), found)


def test_per_tensor_gramians_sum_to_the_whole() -> None:
    blocks = blocks_of(3)
    each = pcgrad.gramian(blocks, per_tensor=True)
    assert each.shape == (4, 3, 3)
    assert torch.allclose(each[1], blocks[1].double() @ blocks[1].double().T, rtol=0, atol=1e-5)
    assert torch.equal(each.sum(0), pcgrad.gramian(blocks))


@pytest.mark.parametrize(("tasks", "size"), [(3, 400_100), (2 * 12 + 1, 70_001)])
def test_large_blocks_keep_their_digits(tasks: int, size: int) -> None:
    gradients = torch.randn(tasks, size, generator=torch.Generator().manual_seed(1)) + 0.3
    exact = gradients.double() @ gradients.double().T
    assert (pcgrad.gramian([gradients]) - exact).abs().max() <= 1e-7 * exact.diagonal().max()


@pytest.mark.parametrize("tasks", [12, 12 + 1, 3 * 12, 3 * 12 + 1])
def test_bands_of_tasks_cover_every_pair(tasks: int) -> None:
    gradients = torch.randn(
        tasks, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    found = pcgrad.gramian([gradients[:, :20], gradients[:, 20:]])
    torch.testing.assert_close(found, gradients @ gradients.T, rtol=0, atol=1e-12)
    assert torch.equal(found, found.T)


def test_settings_that_shorten_products_are_off_and_come_back() -> None:
    blocks = [torch.randn(6, 64, 64, generator=torch.Generator().manual_seed(2))]
    weights = torch.linspace(0, 1, 6, dtype=torch.float64)

    def run() -> tuple[Tensor, Tensor, Tensor]:
        parameter = torch.zeros(64, 64)
        pcgrad.apply_weights([parameter], blocks, weights)
        assert parameter.grad is not None
        projected = pcgrad.project_conflicting(blocks[0].flatten(1), pcgrad.fixed_orders(6))
        return pcgrad.gramian(blocks), parameter.grad, projected

    expected = run()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = run()
            assert torch.is_autocast_enabled("cpu")
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_apply_weights_adds_the_weighted_sum(dtype: torch.dtype) -> None:
    blocks = blocks_of(3, dtype)
    parameters = [torch.zeros(block.shape[1:], dtype=dtype) for block in blocks]
    weights = torch.tensor([1.0, 2.5, 0.25], dtype=torch.float64)
    pcgrad.apply_weights(parameters, blocks, weights)
    for parameter, block in zip(parameters, blocks, strict=True):
        expected = torch.tensordot(weights, block.double(), 1)
        assert parameter.grad is not None
        assert parameter.grad.dtype == dtype
        assert torch.allclose(
            parameter.grad.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-6
        )
    once = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    pcgrad.apply_weights({str(k): p for k, p in enumerate(parameters)}, blocks, weights)
    assert all(
        torch.equal(p.grad, 2 * g)
        for p, g in zip(parameters, once, strict=True)
        if p.grad is not None
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["flat", "channels last"])
def test_apply_weights_on_long_parameters(dtype: torch.dtype, layout: str) -> None:
    """Longer than a piece, to a new .grad and to an old one; the last piece is a short one."""
    random = torch.Generator().manual_seed(4)
    shape = (70, 4, 30, 34) if layout == "channels last" else (2 * PIECE + 77,)
    gradients = torch.randn(3, *shape, generator=random, dtype=torch.float64).to(dtype)
    assert gradients[0].numel() > 2 * PIECE
    assert gradients[0].numel() % PIECE
    parameter = torch.zeros(shape, dtype=dtype)
    if layout == "channels last":
        parameter = parameter.to(memory_format=torch.channels_last)
    weights = torch.tensor([1.0, -2.5, 0.25], dtype=torch.float64)
    expected = torch.tensordot(weights, gradients.double(), 1)
    tolerance = 4 * torch.finfo(dtype).eps * expected.abs().max()
    for times in (1, 2):
        pcgrad.apply_weights([parameter], [gradients], weights)
        assert parameter.grad is not None
        assert parameter.grad.dtype == dtype
        assert parameter.grad.stride() == parameter.stride()
        assert (parameter.grad.double() - times * expected).abs().max() <= times * tolerance
    assert (gradients[0] != 0).any()


def test_apply_weights_per_tensor_uses_each_row() -> None:
    blocks = blocks_of(3)
    parameters = [torch.zeros(block.shape[1:]) for block in blocks]
    weights = torch.arange(12.0).reshape(4, 3)
    pcgrad.apply_weights(parameters, blocks, weights)
    for k, parameter in enumerate(parameters):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, torch.tensordot(weights[k], blocks[k], 1), atol=1e-5)


def test_gradient_has_the_layout_of_the_parameter_and_aliases_nothing() -> None:
    parameter = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)
    gradients = torch.randn(2, 2, 3, 4, 5)
    pcgrad.apply_weights([parameter], [gradients], torch.tensor([1.0, 0.0]))
    assert parameter.grad is not None
    assert parameter.grad.stride() == parameter.stride()
    assert torch.equal(parameter.grad, gradients[0])
    parameter.grad.zero_()
    assert gradients[0].abs().min() > 0


def test_bad_input_is_named() -> None:
    one = torch.ones(2, 3)
    for gradients, error, message in [
        ([], ValueError, "the list is empty"),
        (one, TypeError, "list or dict of tensors"),
        ([one, torch.ones(3, 3)], ValueError, "gradient 1 has 3 tasks, gradient 0 has 2"),
        ([torch.tensor(1.0)], ValueError, r"floating-point or complex \[T, \*shape\]"),
        ([torch.ones(2, 3, dtype=torch.int64)], ValueError, "floating-point"),
        ([torch.ones(0, 3)], ValueError, "no tasks"),
        (
            [one, torch.ones(2, 3, device="meta")],
            ValueError,
            "gradient 1 is on meta, gradient 0 on cpu",
        ),
    ]:
        with pytest.raises(error, match=message):
            pcgrad.gramian(gradients)  # type: ignore[arg-type]
    weights = torch.ones(2)
    with pytest.raises(ValueError, match="2 parameters but 1 gradients"):
        pcgrad.apply_weights([torch.ones(3), torch.ones(3)], [one], weights)
    with pytest.raises(ValueError, match=r"weights must be \[2\] or \[1, 2\], got \[3\]"):
        pcgrad.apply_weights([torch.ones(3)], [one], torch.ones(3))
    untouched = torch.ones(3)
    with pytest.raises(ValueError, match=r"gradient 1 is for shape \[3\], parameter 1 is \[4\]"):
        pcgrad.apply_weights([untouched, torch.ones(4)], [one, one], weights)
    assert untouched.grad is None
