import numpy as np
import pytest
import torch

import pcgrad
from proofs import attack, theorem1
from proofs.attack import Search
from proofs.problems import Problems, look
from proofs.tally import Trial


def too_long(problems: Problems, u: torch.Tensor) -> Trial:
    """The same past the largest step: t between 1 / L and 2 / L."""
    honest = theorem1.trial(problems, (1 + u) / problems.lipschitz())
    return honest._replace(accepted=look(problems, problems.start()).conflict)


def test_decode_gives_every_parameter_its_place() -> None:
    search = Search("x", theorem1.searched, "quadratic", tasks=3, rows=2, dimension=4)
    x = np.arange(search.size) / search.size
    problems, u = search.decode(np.stack([x, -x]))
    assert problems.A.shape == (2, 3, 2, 4)
    together = torch.cat(
        [(problems.A / 3).flatten(1), (problems.b / 3).flatten(1), problems.s.log10()], 1
    )
    assert torch.allclose(together[0], torch.from_numpy(x[:-1]))
    assert u.tolist() == pytest.approx([(1 + x[-1]) / 2, (1 - x[-1]) / 2])


def test_a_true_statement_survives_and_its_edge_is_reached() -> None:
    found = attack.attack(Search("theorem1", theorem1.searched, "quadratic"), 0, 20)
    assert not any(row.violates for row in found.values())
    assert all(row.evaluations > 100 for row in found.values())
    assert 0 < min(row.smallest_margin for row in found.values()) < 1e-2


@pytest.mark.parametrize("family", ["quadratic", "softplus"])
def test_a_false_statement_falls_and_the_instance_can_be_made_again(family: str) -> None:
    search = Search("theorem1", too_long, family)
    found = attack.attack(search, 0, 20)
    assert any(row.violates for row in found.values())
    worst = min(found.values(), key=lambda row: row.smallest_margin)
    trial = too_long(*search.decode(np.array([worst.x])))
    assert trial.violated.all()
    assert max(float(trial.margin / trial.unit), -attack.CLIP) == pytest.approx(
        worst.smallest_margin
    )


def test_the_same_seed_finds_the_same() -> None:
    one, two = (
        attack.attack(Search("theorem1", theorem1.searched, "quadratic"), 3, 4) for _ in range(2)
    )
    assert one == two


def test_an_instance_outside_the_hypotheses_never_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(problems: Problems, u: torch.Tensor) -> Trial:
        return too_long(problems, u)._replace(accepted=torch.zeros(len(problems), dtype=torch.bool))

    found = attack.attack(Search("theorem1", never, "quadratic"), 0, 4)
    assert not any(row.violates for row in found.values())
    assert all(row.smallest_margin is None for row in found.values())


def test_a_wrong_core_is_found_by_the_optimizers(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = pcgrad.surgery_coefficients
    monkeypatch.setattr(pcgrad, "surgery_coefficients", lambda g, o: 2.5 * honest(g, o))
    found = attack.attack(Search("theorem1", theorem1.searched, "quadratic"), 0, 10)
    assert any(row.violates for row in found.values())
