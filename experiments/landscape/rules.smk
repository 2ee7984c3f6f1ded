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
        settings=settings("landscape"),
        code=entry_hash("experiments.landscape.run", "run"),
        folder=subpath(output.summary, parent=True),
    shell:
        "python -m experiments.landscape.run --config {params.settings:q} --out {params.folder:q} > {log:q} 2>&1"


rule figure_1:
    """Figure 1: the landscape and both trajectories on it."""
    input:
        trajectories="<results>/landscape/trajectories.npz",
        surface="<results>/landscape/surface.npz",
        summary="<results>/landscape/summary.json",
    output:
        png=report(
            "<results>/figures/figure_1.png",
            caption="captions/figure_1.rst",
            category="Figures",
            labels={"figure": "1", "shows": "landscape"},
        ),
        pdf="<results>/figures/figure_1.pdf",
    log:
        "<logs>/figure_1.log",
    benchmark:
        "<benchmarks>/figure_1.tsv"
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
        "figure_1.py"


rule figure_2:
    """Figure 2: the projection itself, drawn by the core."""
    input:
        vectors="<results>/landscape/vectors.json",
    output:
        png=report(
            "<results>/figures/figure_2.png",
            caption="captions/figure_2.rst",
            category="Figures",
            labels={"figure": "2", "shows": "projection"},
        ),
        pdf="<results>/figures/figure_2.pdf",
    log:
        "<logs>/figure_2.log",
    benchmark:
        "<benchmarks>/figure_2.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        code=code("src/reporting"),
    script:
        "figure_2.py"
