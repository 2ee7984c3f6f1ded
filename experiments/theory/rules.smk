rule table_theory:
    """The theory: a verdict, what it rests on and a counterexample for every statement."""
    input:
        proofs=expand(
            "<results>/proofs/{statement}.json", statement=[*STATEMENTS[1:], STATEMENTS[0]]
        ),
    output:
        csv="<results>/tables/table_theory.csv",
        md="<results>/tables/table_theory.md",
        tex="<results>/tables/table_theory.tex",
        html=report(
            "<results>/tables/table_theory.html",
            caption="captions/table_theory.rst",
            category="Tables",
            labels={"table": "theory", "shows": "the verdict on every statement"},
        ),
    log:
        "<logs>/table_theory.log",
    benchmark:
        "<benchmarks>/table_theory.tsv"
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
        "table_theory.py"
