rule render_tasks:
    """Picture every task of MT50 with MuJoCo's ray caster."""
    output:
        pictures="<results>/gallery/tasks.npz",
        tasks="<results>/gallery/tasks.json",
    log:
        "<logs>/render_tasks.log",
    benchmark:
        "<benchmarks>/render_tasks.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        code=code(
            *("src/multitask/rl/envs.py", "src/multitask/runs/seeding.py"),
            *(
                "experiments/metaworld_gallery/raycamera.py",
                "experiments/metaworld_gallery/render.py",
            ),
        ),
        folder=subpath(output.tasks, parent=True),
    shell:
        "python -m experiments.metaworld_gallery.render {params.folder:q} > {log:q} 2>&1"


rule figure_10:
    """Figure 10: the tasks of MT50."""
    input:
        pictures="<results>/gallery/tasks.npz",
        tasks="<results>/gallery/tasks.json",
    output:
        png=report(
            "<results>/figures/figure_10.png",
            caption="captions/figure_10.rst",
            category="Figures",
            labels={"figure": "10", "shows": "MT50's tasks"},
        ),
        pdf="<results>/figures/figure_10.pdf",
    log:
        "<logs>/figure_10.log",
    benchmark:
        "<benchmarks>/figure_10.tsv"
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
        "figure_10.py"
