include: "tuning.smk"


rule data:
    """Find and check, download or generate the data of one experiment, once, before its jobs need them side by side."""
    output:
        "<results>/data/{experiment}.json",
    log:
        "<logs>/data/{experiment}.log",
    benchmark:
        "<benchmarks>/data/{experiment}.tsv"
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=12000,
        runtime="6h",
    params:
        settings=lambda wildcards: settings(wildcards.experiment),
        code=lambda wildcards: training_hash(wildcards.experiment),
    shell:
        "python -m experiments.data {wildcards.experiment} {params.settings:q} {output:q} > {log:q} 2>&1"


rule train:
    """Train one method of one experiment for a range of seeds; a broken job resumes from its checkpoints."""
    input:
        # Not ancient(): Snakemake 9.27 then overlooks every other reason to train while rule data runs as well. Both
        # rules have the same params, so that data alone never run again.
        data="<results>/data/{experiment}.json",
        chosen=chosen,
    output:
        metrics="<results>/runs/{experiment}/{method}/seeds{first}-{last}/metrics.csv",
        run="<results>/runs/{experiment}/{method}/seeds{first}-{last}/run.json",
    log:
        "<logs>/train_{experiment}/{method}_seeds{first}-{last}.log",
    benchmark:
        "<benchmarks>/train_{experiment}/{method}_seeds{first}-{last}.tsv"
    conda:
        "../environment.yml"
    threads: config["torch_threads"]
    resources:
        gpu=0 if config["device"] == "cpu" else 1,
        mem_mb=12000,
        runtime="3d",
    params:
        settings=lambda wildcards: settings(wildcards.experiment, untuned(wildcards.method)),
        code=lambda wildcards: training_hash(wildcards.experiment, untuned(wildcards.method)),
        folder=subpath(output.metrics, parent=True),
        chosen=lambda wildcards, input: ["--chosen", *input.chosen] if input.chosen else [],
    shell:
        "python -m experiments.run {wildcards.experiment} {wildcards.method} --seeds {wildcards.first}-{wildcards.last}"
        " --config {params.settings:q} --out {params.folder:q} {params.chosen:q} > {log:q} 2>&1"
