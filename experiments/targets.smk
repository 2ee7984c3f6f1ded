rule figures:
    """Every figure."""
    input:
        expand("<results>/figures/figure_{number}.html", number=FIGURES),
    localrule: True


rule tables:
    """Every table."""
    input:
        expand("<results>/tables/table_{name}.csv", name=TABLES),
    localrule: True


rule claims:
    """The ledger: a verdict for every claim of the paper that this scale can test."""
    input:
        ledger="experiments/claims.yaml",
        paper=expand("experiments/reported/{name}.csv", name=REPORTED),
        runs=runs(*EXPERIMENTS),
        landscape="<results>/landscape/summary.json",
        proofs=expand("<results>/proofs/{statement}.json", statement=STATEMENTS),
        gallery="<results>/gallery/tasks.json",
    output:
        csv="<results>/claims.csv",
        md="<results>/claims.md",
        html=report("<results>/claims.html", caption="captions/claims.rst", category="Claims"),
    log:
        "<logs>/claims.log",
    benchmark:
        "<benchmarks>/claims.tsv"
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        scale=config["scale"],
        code=code("src/reporting"),
    script:
        "claims.py"
