# Pages over all results of a scale: the scoreboard, the paper's numbers against ours, the front page of the report,
# the article.


rule overview:
    """The scoreboard of claims, the paper's numbers against ours, and the front page of the report."""
    input:
        claims=rules.claims.output.csv,
        tables=rules.tables.input,
        labels="src/reporting/labels.csv",
    output:
        scoreboard=report(
            "<results>/figures/scoreboard.html",
            caption="captions/scoreboard.rst",
            category="0 Overview",
            labels={"page": "1 Scoreboard"},
        ),
        numbers=report(
            "<results>/figures/paper_against_ours.html",
            caption="captions/paper_against_ours.rst",
            category="0 Overview",
            labels={"page": "2 The paper's numbers against ours"},
        ),
        pictures=expand(
            "<results>/figures/{name}.{kind}",
            name=["scoreboard", "paper_against_ours"],
            kind=["png", "pdf"],
        ),
        front="<results>/front.rst",
        narrow=directory("<results>/tables/narrow"),
    log:
        "<logs>/overview.log",
    benchmark:
        "<benchmarks>/overview.tsv"
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code("src/reporting", "src/publishing"),
        folder=subpath(output.front, parent=True),
    shell:
        "python -m publishing.front {params.folder:q} > {log:q} 2>&1"


rule article:
    """The replication report as a PDF, every number read from a file."""
    input:
        claims=rules.claims.output.csv,
        tables=rules.tables.input,
        labels="src/reporting/labels.csv",
        figures=rules.figures.input,
        template="report/article.typ",
        fixed="report/article.yaml",
        deviations="docs/deviations.md",
    output:
        pdf=report(
            "<results>/article.pdf",
            caption="captions/article.rst",
            category="0 Overview",
            labels={"page": "3 The article"},
        ),
        data="<results>/article.json",
    log:
        "<logs>/article.log",
    benchmark:
        "<benchmarks>/article.tsv"
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code("src/reporting", "src/publishing"),
        folder=subpath(output.pdf, parent=True),
    shell:
        "python -m publishing.article {params.folder:q} > {log:q} 2>&1"
