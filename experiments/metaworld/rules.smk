rule metaworld_experts:
    """Drive every task of the experiments with Meta-World's scripted policy."""
    output:
        "<results>/metaworld/experts.json",
    log:
        "<logs>/metaworld_experts.log",
    benchmark:
        "<benchmarks>/metaworld_experts.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=30,
    params:
        code=script_hash("experiments/metaworld/experts.py"),
        scale=config["scale"],
        tasks=sorted(
            {
                task
                for name, block in config["experiments"].items()
                if name.startswith("metaworld_")
                for task in (
                    [block["tasks"]] if isinstance(block["tasks"], str) else block["tasks"]
                )
            }
        ),
    shell:
        "python -m experiments.metaworld.experts {params.scale} {output:q} {params.tasks:q} > {log:q} 2>&1"
