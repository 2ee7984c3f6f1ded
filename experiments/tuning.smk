# Tuned rows: the same grid and budget for every method, judged on a share of train that is held out.
rule tune:
    """Train one method at every point of its experiment's tuning grid; a broken job resumes from its checkpoints."""
    input:
        data="<results>/data/{experiment}.json",
    output:
        grid=directory("<results>/tuning/{experiment}/{method}/grid"),
    log:
        "<logs>/tune_{experiment}/{method}.log",
    benchmark:
        "<benchmarks>/tune_{experiment}/{method}.tsv"
    conda:
        "../environment.yml"
    threads: config["torch_threads"]
    resources:
        gpu=0 if config["device"] == "cpu" else 1,
        mem_mb=12000,
        runtime="3d",
    params:
        settings=lambda wildcards: settings(
            wildcards.experiment, wildcards.method, tuning=grid(wildcards.experiment)
        ),
        code=lambda wildcards: training_hash(wildcards.experiment, wildcards.method),
    shell:
        "python -m experiments.run {wildcards.experiment} {wildcards.method} --grid"
        " --config {params.settings:q} --out {output.grid:q} > {log:q} 2>&1"


rule choose:
    """The best point of a method's grid by its validation metric."""
    input:
        grid="<results>/tuning/{experiment}/{method}/grid",
    output:
        "<results>/tuning/{experiment}/{method}/chosen.json",
    log:
        "<logs>/choose/{experiment}_{method}.log",
    benchmark:
        "<benchmarks>/choose/{experiment}_{method}.tsv"
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        code=code("src/reporting/tuning.py"),
    script:
        "choose.py"
