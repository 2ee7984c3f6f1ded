rule train:
    """Train one method of one experiment for a range of seeds; a broken job resumes from its checkpoints."""
    output:
        metrics="<results>/runs/{experiment}/{method}/seeds{first}-{last}/metrics.csv",
        run="<results>/runs/{experiment}/{method}/seeds{first}-{last}/run.json",
    log:
        "<logs>/train_{experiment}/{method}_seeds{first}-{last}.log",
    benchmark:
        "<benchmarks>/train_{experiment}/{method}_seeds{first}-{last}.tsv"
    wildcard_constraints:
        first=r"\d+",
        last=r"\d+",
    conda:
        "../environment.yml"
    threads: config["torch_threads"]
    resources:
        gpu=0 if config["device"] == "cpu" else 1,
        mem_mb=4000,
        runtime="3d",
    params:
        settings=lambda wildcards: settings(wildcards.experiment),
        code=lambda wildcards: code(*training_sources(wildcards.experiment)),
        folder=subpath(output.metrics, parent=True),
    shell:
        "python -m experiments.run {wildcards.experiment} {wildcards.method} --seeds {wildcards.first}-{wildcards.last}"
        " --config {params.settings:q} --out {params.folder:q} > {log:q} 2>&1"
