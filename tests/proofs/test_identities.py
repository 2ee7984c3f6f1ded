import pytest
from conftest import MUTANTS

import pcgrad
from proofs import identities
from proofs.tally import BrokenError


@pytest.mark.parametrize("identity", identities.ALL, ids=lambda identity: identity.__name__)
def test_identity_is_proved_and_explained(identity) -> None:  # type: ignore[no-untyped-def]
    assert "=" in identity() or r"\ge" in identity()
    assert identity.__doc__.endswith(".")


USES_THE_UPDATE = [
    *(
        identities.coefficients,
        identities.length,
        identities.bounding_measure,
        identities.product,
        identities.condition_a,
    ),
    *(
        identities.theorem1_descent,
        identities.largest_step,
        identities.theorem2_bound,
        identities.tight_step,
    ),
]


@pytest.mark.parametrize("identity", USES_THE_UPDATE, ids=lambda identity: identity.__name__)
def test_a_wrong_update_breaks_the_proof(monkeypatch: pytest.MonkeyPatch, identity) -> None:  # type: ignore[no-untyped-def]
    honest = identities.algorithm_1
    monkeypatch.setattr(identities, "algorithm_1", lambda: honest() / 2 + identities.G1 / 3)
    with pytest.raises(identities.IdentityError):
        identity()


def test_a_wrong_similarity_breaks_the_implication(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "PHI", 2 * identities.PHI)
    with pytest.raises(identities.IdentityError):
        identities.b_implies_a()


@pytest.mark.parametrize("mutant", ["mean", "never", "dropped", "epsilon"])
def test_numbers_of_a_mutant_core_break_the_check(
    monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    assert identities.numeric(500, 0)["xi_at_most_1_without_a"] == 0
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS[mutant])
    with pytest.raises(BrokenError, match="largest relative errors"):
        identities.numeric(500, 0)


def test_a_counterexample_to_b_implies_a_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcgrad, "condition_a", lambda gramian: gramian < -1e9)
    assert (
        identities.check({"instances": 500, "seed": 0})["verdicts"]["b_implies_a"]
        == "false as stated"
    )


def test_every_statement_gives_its_identities_and_no_name_twice() -> None:
    """The notebooks find a formula by its name."""
    rows = identities.check({"instances": 10, "seed": 0})["identities"]
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names)
    assert {"b_implies_a", "escape_update", "cycle", "tau_numerator", "contraction"} <= set(names)
    assert all(row["says"].endswith(".") and row["latex"] for row in rows)
