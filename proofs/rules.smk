STATEMENTS = [
    "identities",
    "theorem1",
    "proposition1",
    "corollary1",
    "theorem2",
    "theorem3",
    "theorem4",
]
# The notebooks' pictures change no number.
SOURCES = glob_wildcards("proofs/{name}.py").name
CHECKS = [f"proofs/{name}.py" for name in SOURCES if not name.startswith("pictures/")]


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


rule theory:
    """Every statement of the theory."""
    input:
        expand("<results>/proofs/{statement}.json", statement=STATEMENTS),
    localrule: True
