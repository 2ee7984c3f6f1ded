rule figure_6:
    """Figure 6: the puck's distance to its goal, with and without surgery."""
    input:
        runs=runs("goal_conditioned"),
    output:
        png=report(
            "<results>/figures/figure_6.png",
            caption="captions/figure_6.rst",
            category="Figures",
            labels={"figure": "6", "shows": "goal-conditioned pushing"},
        ),
        pdf="<results>/figures/figure_6.pdf",
    log:
        "<logs>/figure_6.log",
    benchmark:
        "<benchmarks>/figure_6.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        scale=config["scale"],
        code=code("src/reporting"),
    script:
        "figure_6.py"
