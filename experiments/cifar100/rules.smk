rule table_2:
    """Table 2: accuracy over 20 tasks, the paper's numbers beside ours."""
    input:
        runs=runs("cifar100"),
        paper="experiments/reported/table_2.csv",
        settings="config/paper.yaml",  # the footer names what differs from it
    output:
        csv="<results>/tables/table_2.csv",
        md="<results>/tables/table_2.md",
        tex="<results>/tables/table_2.tex",
        html=report(
            "<results>/tables/table_2.html",
            caption="captions/table_2.rst",
            category="Tables",
            labels={"table": "2", "shows": "CIFAR-100"},
        ),
    log:
        "<logs>/table_2.log",
    benchmark:
        "<benchmarks>/table_2.tsv"
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
        "table_2.py"
