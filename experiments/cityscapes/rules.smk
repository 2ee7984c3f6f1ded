rule table_5:
    """Table 5: CityScapes with equal weights."""
    input:
        runs=runs("cityscapes"),
        paper=expand("experiments/reported/table_{number}.csv", number=[5, 7]),
        settings="config/paper.yaml",  # the footer names what differs from it
    output:
        csv="<results>/tables/table_5.csv",
        md="<results>/tables/table_5.md",
        tex="<results>/tables/table_5.tex",
        html=report(
            "<results>/tables/table_5.html",
            caption="captions/table_5.rst",
            category="Tables",
            labels={"table": "5", "shows": "CityScapes: equal weights"},
        ),
    log:
        "<logs>/table_5.log",
    benchmark:
        "<benchmarks>/table_5.tsv"
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
        "table_5.py"


rule table_7:
    """Table 7: CityScapes, every architecture and weighting, without and with PCGrad."""
    input:
        runs=runs("cityscapes"),
        paper=expand("experiments/reported/table_{number}.csv", number=[7]),
        settings="config/paper.yaml",  # the footer names what differs from it
    output:
        csv="<results>/tables/table_7.csv",
        md="<results>/tables/table_7.md",
        tex="<results>/tables/table_7.tex",
        html=report(
            "<results>/tables/table_7.html",
            caption="captions/table_7.rst",
            category="Tables",
            labels={"table": "7", "shows": "CityScapes: all rows"},
        ),
    log:
        "<logs>/table_7.log",
    benchmark:
        "<benchmarks>/table_7.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        scale=config["scale"],
        code=code("src/reporting"),
    script:
        "table_7.py"
