rule figure_4:
    """Figure 4: curvature, conflict and return of two tasks, with and without surgery."""
    input:
        runs=runs("triad"),
    output:
        png=report(
            "<results>/figures/figure_4.png",
            caption="captions/figure_4.rst",
            category="Figures",
            labels={"figure": "4", "shows": "the tragic triad"},
        ),
        pdf="<results>/figures/figure_4.pdf",
    log:
        "<logs>/figure_4.log",
    benchmark:
        "<benchmarks>/figure_4.tsv"
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
        "figure_4.py"
