"""The paper's numbers: complete, typed once, consistent with each other and its claims."""

import pytest

from reporting import reported

NYUV2 = [
    "mIoU",
    "PixAcc",
    "AbsErr",
    "RelErr",
    "mean angle",
    "median angle",
    "within 11.25",
    "within 22.5",
    "within 30",
]
LOWER = {"AbsErr", "RelErr", "mean angle", "median angle"}


@pytest.mark.parametrize(
    ("name", "rows", "numbers"),
    [
        *[
            ("table_1", 7, 70),
            ("table_2", 7, 7),
            ("table_3", 2, 2),
            ("table_4", 2, 4),
            ("table_5", 6, 30),
        ],
        *[("table_6", 4, 16), ("table_7", 18, 90), ("table_8", 18, 180)],
    ],
)
def test_every_table_is_whole(name, rows, numbers):
    frame = reported.read(name)
    assert frame.groupby(["row", "weighting"]).ngroups == rows
    assert len(frame) == numbers
    assert frame["value"].notna().all()
    assert set(frame["source"]) == {name}


def wide(name):
    return reported.read(name).pivot(index=["row", "weighting"], columns="column", values="value")


def test_tables_1_and_5_are_rows_of_8_and_7():
    for part, whole in (("table_1", "table_8"), ("table_5", "table_7")):
        small, large = wide(part), wide(whole)
        assert small.equals(large.loc[small.index, small.columns])
    assert set(wide("table_5").index.get_level_values("weighting")) == {"Equal"}
    assert set(wide("table_1").index.get_level_values("row")) == {
        "Cross-Stitch",
        "MTAN",
        "MTAN+PCGrad",
    }


def test_paper_is_best_in_8_of_9_columns_of_table_1():
    table = wide("table_1")
    best = [
        (table[c].idxmin() if c in LOWER else table[c].idxmax())[0] == "MTAN+PCGrad" for c in NYUV2
    ]
    assert sum(best) == 8
    assert not best[NYUV2.index("within 11.25")]


def test_table_6_repeats_table_8_and_pcgrad_is_better_in_every_column():
    table = wide("table_6")
    for row in ("Cross-Stitch", "Dense"):
        assert table.loc[(row, "Uncert"), "mIoU"] == wide("table_8").loc[(row, "Uncert"), "mIoU"]
        for column in table:
            gain = table.loc[(f"{row}+PCGrad", ""), column] - table.loc[(row, "Uncert"), column]
            assert (gain < 0) == (column in LOWER)


def test_errors_and_angles_are_plausible():
    for name in ("table_7", "table_8"):
        frame = reported.read(name)
        percent = frame[frame["unit"] == "%"]["value"]
        assert percent.between(5, 100).all()
        assert frame[frame["column"] == "AbsErr"]["value"].lt(1).all()
    table = wide("table_8")
    assert (table["median angle"] < table["mean angle"]).all()
    assert (table["within 11.25"] < table["within 22.5"]).all()
    assert (table["within 22.5"] < table["within 30"]).all()


def test_single_numbers():
    assert reported.number("table_4", "PCGrad", "right accuracy") == 95.50
    assert reported.number("table_8", "MTAN+PCGrad", "mIoU", weighting="Uncert") == 20.17
    assert reported.number("figure_1", "Adam", "updates") == 500_000


def test_missing_number_and_table_are_named():
    with pytest.raises(ValueError, match="0 numbers"):
        reported.number("table_4", "PCGrad", "middle accuracy")
    with pytest.raises(ValueError, match="2 numbers"):
        reported.number("figure_3", "SAC + PCGrad", "success")  # MT10 and MT50
    with pytest.raises(ValueError, match=r"no reported numbers at .*table_9"):
        reported.read("table_9")


def test_reference_to_nowhere_and_double_number_are_errors(tmp_path):
    head = ",".join(reported.COLUMNS) + "\n"
    (tmp_path / "table_8.csv").write_text(head + "table_8,,A,,x,1,,,\n")
    (tmp_path / "table_1.csv").write_text(head + "table_1,,B,,*,,,table_8,\n")
    with pytest.raises(ValueError, match="no such number"):
        reported.read("table_1", tmp_path)
    (tmp_path / "table_2.csv").write_text(head + "table_2,,A,,x,1,,,\ntable_2,,A,,x,2,,,\n")
    with pytest.raises(ValueError, match="twice"):
        reported.read("table_2", tmp_path)
