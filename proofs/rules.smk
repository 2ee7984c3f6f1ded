STATEMENTS = [
    "identities",
    "theorem1",
    "proposition1",
    "corollary1",
    "theorem2",
    "theorem3",
    "theorem4",
    "opposite_points",
    "three_tasks",
]
# Pictures and the document change no number.
SOURCES = glob_wildcards("proofs/{name}.py").name
CHECKS = [f"proofs/{name}.py" for name in SOURCES if not name.startswith(("pictures/", "document"))]


rule proof:
    """Check one statement of the paper's theory, symbolically or on random problems."""
    output:
        "<results>/proofs/{statement}.json",
    log:
        "<logs>/proof_{statement}.log",
    benchmark:
        "<benchmarks>/proof_{statement}.tsv"
    wildcard_constraints:
        statement="|".join(STATEMENTS),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=60,
    params:
        settings=json.dumps({"scale": config["scale"], "theory": config["theory"]}, sort_keys=True),
        code=code("src/pcgrad", *CHECKS),
    shell:
        "python -m proofs.check {wildcards.statement} --config {params.settings:q} --out {output:q} > {log:q} 2>&1"


rule theorems:
    """Readings, verdicts, counterexamples and proofs as one typeset document."""
    input:
        text="proofs/THEOREMS.md",
        proofs=expand("<results>/proofs/{statement}.json", statement=STATEMENTS),
    output:
        pdf=report("<results>/proofs/THEOREMS.pdf", category="Theory"),
        figures=expand("<results>/proofs/theorems_{name}.png", name=["walk", "attraction", "noise"]),
    log:
        "<logs>/theorems.log",
    benchmark:
        "<benchmarks>/theorems.tsv"
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code("proofs"),
        results=subpath(output.pdf, ancestor=2),
    shell:
        "python -m proofs.document pdf --results {params.results:q} > {log:q} 2>&1"


rule theory:
    """Every statement of the theory, and the document."""
    input:
        expand("<results>/proofs/{statement}.json", statement=STATEMENTS),
        rules.theorems.output.pdf,
    localrule: True
