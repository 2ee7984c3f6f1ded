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
