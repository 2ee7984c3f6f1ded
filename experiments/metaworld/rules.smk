# Figures 3, 7, 8 and 9, two figures of ours, and a table for each task set.
RL_FIGURES = {  # name: the experiments that it shows, what it shows
    "3": (
        ["metaworld_mt3", "metaworld_mt10", "metaworld_mt50"],
        "success with and without surgery",
    ),
    "7": (["metaworld_mt10"], "PCGrad and CosReg"),
    "8": (["metaworld_mt50"], "random and fixed order"),
    "9": (["metaworld_mt10"], "multi-head SAC"),
    "tasks": (["metaworld_mt3", "metaworld_mt10"], "success of every task"),
    "conflicts": (["metaworld_mt3", "metaworld_mt10"], "conflict along training"),
}

for number, (shown, words) in RL_FIGURES.items():

    rule:
        name:
            f"figure_{number}"
        input:
            runs=runs(*shown),
            paper="experiments/reported/figures.csv",
        output:
            png=report(
                f"<results>/figures/figure_{number}.png",
                caption=f"captions/figure_{number}.rst",
                category="Figures",
                labels={"figure": number, "shows": words},
            ),
            pdf=f"<results>/figures/figure_{number}.pdf",
        log:
            f"<logs>/figure_{number}.log",
        benchmark:
            f"<benchmarks>/figure_{number}.tsv"
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
            figure=number,  # the script's path is read after the loop, when `number` is the last one
        script:
            "figure_{params.figure}.py"


rule table_metaworld:
    """The end of training on one task set: every method, its differences to SAC + PCGrad, its cost."""
    input:
        runs=lambda wildcards: runs(f"metaworld_{wildcards.tasks}"),
        settings="config/paper.yaml",  # the footer names what differs from it
    output:
        csv="<results>/tables/table_{tasks}.csv",
        md="<results>/tables/table_{tasks}.md",
        tex="<results>/tables/table_{tasks}.tex",
        html=report(
            "<results>/tables/table_{tasks}.html",
            caption="captions/table_metaworld.rst",
            category="Tables",
            labels={"table": "{tasks}", "shows": "end of training"},
        ),
    log:
        "<logs>/table_{tasks}.log",
    benchmark:
        "<benchmarks>/table_{tasks}.tsv"
    wildcard_constraints:
        tasks="reach|mt3|mt10|mt50",
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
        "table_metaworld.py"


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
        code=code(
            "src/multitask/rl/envs.py",
            "src/multitask/runs/seeding.py",
            "experiments/metaworld/experts.py",
        ),
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


rule table_experts:
    """What the scripted policies reach: which tasks can be solved, and what the rewards pay for."""
    input:
        experts="<results>/metaworld/experts.json",
    output:
        csv="<results>/tables/table_experts.csv",
        md="<results>/tables/table_experts.md",
        tex="<results>/tables/table_experts.tex",
        html=report(
            "<results>/tables/table_experts.html",
            caption="captions/table_experts.rst",
            category="Tables",
            labels={"table": "experts", "shows": "whether the tasks can be learned"},
        ),
    log:
        "<logs>/table_experts.log",
    benchmark:
        "<benchmarks>/table_experts.tsv"
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
        "table_experts.py"


rule table_tasks:
    """Success in every task of MT3 and MT10, method by method."""
    input:
        runs=runs("metaworld_mt3", "metaworld_mt10"),
    output:
        csv="<results>/tables/table_tasks.csv",
        md="<results>/tables/table_tasks.md",
        tex="<results>/tables/table_tasks.tex",
        html=report(
            "<results>/tables/table_tasks.html",
            caption="captions/table_tasks.rst",
            category="Tables",
            labels={"table": "tasks", "shows": "success in every task"},
        ),
    log:
        "<logs>/table_tasks.log",
    benchmark:
        "<benchmarks>/table_tasks.tsv"
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
        "table_tasks.py"
