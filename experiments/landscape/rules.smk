rule landscape:
    """Data of Figures 1 and 2: Adam with and without surgery from every start, to the end."""
    output:
        trajectories="<results>/landscape/trajectories.npz",
        surface="<results>/landscape/surface.npz",
        vectors="<results>/landscape/vectors.json",
        summary="<results>/landscape/summary.json",
    log:
        "<logs>/landscape.log",
    benchmark:
        "<benchmarks>/landscape.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=60,
    params:
        settings=lambda wildcards: settings("landscape"),
        code=entry_hash("experiments.landscape.run", "run"),
        folder=subpath(output.summary, parent=True),
    shell:
        "python -m experiments.landscape.run --config {params.settings:q} --out {params.folder:q} > {log:q} 2>&1"
