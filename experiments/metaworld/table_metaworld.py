"""Final success, conflicts and cost of every method on one of Meta-World's task sets; the paper has only curves."""

from reporting.comparison import Comparison
from reporting.tables import Quantity

METHODS = (
    *("sac", "sac_pcgrad", "multihead_sac", "multihead_sac_pcgrad", "independent", "direction_only", "magnitude_only"),
    *("gradnorm", "cosreg", "sac_pcgrad_fixed", "sac_reward_normalized", "sac_weight_decay"),
)
ALONE = ("fixed_goal", "varied_goals")  # the rows of reach, learned alone
LAST = 10  # collections over which the end of a run is averaged


def table(tasks: str) -> Comparison:
    """The table of `mt3`, `mt10`, `mt50`, or of `reach` alone, whose last evaluation has many episodes."""
    methods, last = (ALONE, 1) if tasks == "reach" else (METHODS, LAST)
    return Comparison(
        source=f"table_{tasks}",
        title=f"{tasks.upper()}: the end of training",
        experiment=f"metaworld_{tasks}",
        methods=methods,
        pairs=(
            *(("sac_pcgrad", other) for other in METHODS if other != "sac_pcgrad"),
            ("multihead_sac_pcgrad", "multihead_sac"),
        ),
        quantities=(
            Quantity("all", "evaluation_success", "success", 3, last=last, compare=True),
            Quantity("all", "success", "success in training", 3, last=last),
            Quantity("all", "success_last", "at the last step", 3, last=last),
            Quantity("all", "conflicts_q1", "conflicts a collection, critic 1", 0, over="all"),
            Quantity("all", "length_ratio_q1", "length ratio, critic 1", 3, over="all"),
            Quantity("all", "run_seconds", "seconds a run", 0),
            Quantity("all", "peak_memory_mb", "peak memory, MB", 0),
        ),
        paper_rows={},
        notes=(
            f"success: share of episodes with success at any step, mean over tasks and the last {last} collection(s)",
            "success: of the deterministic policy, by itself; in training and at the last step: with sampled actions",
            "the paper shows curves only; what its text says of their ends is drawn in Figure 3",
        ),
    )


if __name__ == "__main__":
    snakemake = globals()["snakemake"]  # put there by Snakemake

    out = snakemake.output
    table(snakemake.wildcards.tasks).write(
        list(snakemake.input.runs), csv=out.csv, md=out.md, tex=out.tex, html=out.html
    )
