rule table_1:
    """Table 1: NYUv2, Cross-Stitch and MTAN against MTAN with PCGrad."""
    input:
        runs=runs("nyuv2"),
        paper=expand("experiments/reported/table_{number}.csv", number=[1, 8]),
        settings="config/paper.yaml",  # the footer names what differs from it
    output:
        csv="<results>/tables/table_1.csv",
        md="<results>/tables/table_1.md",
        tex="<results>/tables/table_1.tex",
        html=report(
            "<results>/tables/table_1.html",
            caption="captions/table_1.rst",
            category="Tables",
            labels={"table": "1", "shows": "NYUv2: PCGrad on MTAN"},
        ),
    log:
        "<logs>/table_1.log",
    benchmark:
        "<benchmarks>/table_1.tsv"
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
        "table_1.py"


rule table_6:
    """Table 6: NYUv2, PCGrad on Cross-Stitch and Dense."""
    input:
        runs=runs("nyuv2"),
        paper=expand("experiments/reported/table_{number}.csv", number=[6, 8]),
        settings="config/paper.yaml",  # the footer names what differs from it
    output:
        csv="<results>/tables/table_6.csv",
        md="<results>/tables/table_6.md",
        tex="<results>/tables/table_6.tex",
        html=report(
            "<results>/tables/table_6.html",
            caption="captions/table_6.rst",
            category="Tables",
            labels={"table": "6", "shows": "NYUv2: PCGrad on Cross-Stitch and Dense"},
        ),
    log:
        "<logs>/table_6.log",
    benchmark:
        "<benchmarks>/table_6.tsv"
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
        "table_6.py"


rule table_8:
    """Table 8: NYUv2, every architecture and weighting, without and with PCGrad."""
    input:
        runs=runs("nyuv2"),
        paper=expand("experiments/reported/table_{number}.csv", number=[8, 6]),
        settings="config/paper.yaml",  # the footer names what differs from it
    output:
        csv="<results>/tables/table_8.csv",
        md="<results>/tables/table_8.md",
        tex="<results>/tables/table_8.tex",
        html=report(
            "<results>/tables/table_8.html",
            caption="captions/table_8.rst",
            category="Tables",
            labels={"table": "8", "shows": "NYUv2: all rows"},
        ),
    log:
        "<logs>/table_8.log",
    benchmark:
        "<benchmarks>/table_8.tsv"
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
        "table_8.py"


rule figure_5:
    """Figure 5: training and test losses of MTAN with and without PCGrad."""
    input:
        runs=runs("nyuv2"),
    output:
        png=report(
            "<results>/figures/figure_5.png",
            caption="captions/figure_5.rst",
            category="Figures",
            labels={"figure": "5", "shows": "NYUv2: losses"},
        ),
        pdf="<results>/figures/figure_5.pdf",
    log:
        "<logs>/figure_5.log",
    benchmark:
        "<benchmarks>/figure_5.tsv"
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
        "figure_5.py"
