"""The kernel for task gradients of linear layers, against einsum."""

import pytest
import torch

from pcgrad._linear_gradients import outer_products, row_sums


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize(("m", "n"), [(20, 20), (20, 1), (20, 8), (3, 20), (1, 1)])
def test_outer_products_are_those_of_every_task(dtype, add, m, n):
    """Fails where tasks are mixed, factors are exchanged, `out` is replaced or read by mistake."""
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(4, 6, k, generator=draw).to(dtype) for k in (m, n))
    kind = torch.float32 if dtype == torch.bfloat16 else dtype
    memory = torch.full((4, m * n + 5), 3.0 if add else torch.nan, dtype=kind)
    out = memory[:, 2 : 2 + m * n].view(4, m, n)  # rows with gaps, as in packed memory
    outer_products(left, right, out, add=add)
    expected = torch.einsum("trm,trn->tmn", left.double(), right.double()) + (3 if add else 0)
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    assert torch.equal(memory[:, :2].isnan(), torch.full((4, 2), not add))  # the gaps stay


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("add", [False, True])
def test_row_sums_run_in_float32(dtype, add):
    delta = torch.ones(2, 1000, 3, dtype=dtype)  # summed up in bfloat16 it would stop at 256
    kind = torch.float32 if dtype == torch.bfloat16 else dtype
    out = torch.full((2, 5), 1.0 if add else torch.nan, dtype=kind)[:, 1:4]
    row_sums(delta, out, add=add)
    assert torch.equal(out, torch.full((2, 3), 1001.0 if add else 1000.0, dtype=kind))
