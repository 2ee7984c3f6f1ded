rule table_3:
    """Table 3: average error over 40 attributes, the paper's numbers beside ours."""
    input:
        runs=runs("celeba"),
        paper=expand("experiments/reported/{name}.csv", name=["table_3", "later"]),
        settings="config/paper.yaml",  # the footer names what differs from it
    output:
        csv="<results>/tables/table_3.csv",
        md="<results>/tables/table_3.md",
        tex="<results>/tables/table_3.tex",
        html=report(
            "<results>/tables/table_3.html",
            caption="captions/table_3.rst",
            category="Tables",
            labels={"table": "3", "shows": "CelebA"},
        ),
    log:
        "<logs>/table_3.log",
    benchmark:
        "<benchmarks>/table_3.tsv"
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
        "table_3.py"
