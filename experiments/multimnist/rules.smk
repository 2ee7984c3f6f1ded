rule table_4:
    """Table 4: accuracy on both digits, the paper's numbers beside ours."""
    input:
        runs=runs("multimnist"),
        paper=expand("experiments/reported/{name}.csv", name=["table_4", "later"]),
        settings="config/paper.yaml",  # the footer names what differs from it
    output:
        csv="<results>/tables/table_4.csv",
        md="<results>/tables/table_4.md",
        tex="<results>/tables/table_4.tex",
        html=report(
            "<results>/tables/table_4.html",
            caption="captions/table_4.rst",
            category="Tables",
            labels={"table": "4", "shows": "MultiMNIST"},
        ),
    log:
        "<logs>/table_4.log",
    benchmark:
        "<benchmarks>/table_4.tsv"
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
        "table_4.py"
