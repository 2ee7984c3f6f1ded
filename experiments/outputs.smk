# Every table and figure: one entry says what writes it, from which runs or files, and what it shows. An entry whose
# experiments are not in the scale's config is left out. Its caption is captions/<module>.rst in the module's folder.
# Name: (module:object that writes it, its experiment or files, what it shows, files of the paper's numbers).
TABLES = {
    "1": ("nyuv2.table_1:TABLE", ["nyuv2"], "NYUv2: PCGrad on MTAN", ["table_1", "table_8"]),
    "2": ("cifar100.table_2:TABLE", ["cifar100"], "CIFAR-100", ["table_2"]),
    "3": ("celeba.table_3:TABLE", ["celeba"], "CelebA", ["table_3", "later"]),
    "4": ("multimnist.table_4:TABLE", ["multimnist"], "MultiMNIST", ["table_4", "later"]),
    "5": (
        "cityscapes.table_5:TABLE",
        ["cityscapes"],
        "CityScapes: equal weights",
        ["table_5", "table_7"],
    ),
    "6": (
        "nyuv2.table_6:TABLE",
        ["nyuv2"],
        "NYUv2: PCGrad on Cross-Stitch and Dense",
        ["table_6", "table_8"],
    ),
    "7": ("cityscapes.table_7:TABLE", ["cityscapes"], "CityScapes: all rows", ["table_7"]),
    "8": ("nyuv2.table_8:TABLE", ["nyuv2"], "NYUv2: all rows", ["table_8", "table_6"]),
    "ucmerced": (
        "ucmerced.table_ucmerced:TABLE",
        ["ucmerced"],
        "UC Merced: 17 binary labels",
        [],
    ),
    "camvid": (
        "camvid.table_camvid:TABLE",
        ["camvid"],
        "CamVid: classes and distance to boundaries",
        [],
    ),
    "precision": (
        "precision.table_precision:TABLE",
        ["precision"],
        "bfloat16 against float32",
        [],
    ),
    "reach": ("metaworld.table_metaworld:REACH", ["metaworld_reach"], "end of training", []),
    "mt3": ("metaworld.table_metaworld:MT3", ["metaworld_mt3"], "end of training", []),
    "mt10": ("metaworld.table_metaworld:MT10", ["metaworld_mt10"], "end of training", []),
    "mt50": ("metaworld.table_metaworld:MT50", ["metaworld_mt50"], "end of training", []),
    "experts": (
        "metaworld.table_experts",
        ["metaworld/experts.json"],
        "whether the tasks can be learned",
        [],
    ),
    "tasks": (
        "metaworld.table_tasks",
        ["metaworld_mt3", "metaworld_mt10", "metaworld_alone"],
        "success in every task",
        [],
    ),
    "theory": (
        "theory.table_theory",
        [f"proofs/{statement}.json" for statement in [*STATEMENTS[1:], STATEMENTS[0]]],
        "every statement",
        [],
    ),
}
# Name: (module that writes it, its experiments or files, what it shows).
FIGURES = {
    "1": (
        "landscape.figure_1",
        ["landscape/surface.npz", "landscape/trajectories.npz", "landscape/summary.json"],
        "landscape",
    ),
    "2": ("landscape.figure_2", ["landscape/vectors.json"], "projection"),
    "3": ("metaworld.figure_3", ["metaworld_mt3", "metaworld_mt10", "metaworld_mt50"], "success"),
    "4": ("triad.figure_4", ["triad"], "the tragic triad"),
    "5": ("nyuv2.figure_5", ["nyuv2"], "NYUv2: losses"),
    "6": ("goal_conditioned.figure_6", ["goal_conditioned"], "goal-conditioned pushing"),
    "7": ("metaworld.figure_7", ["metaworld_mt10"], "PCGrad and CosReg"),
    "8": ("metaworld.figure_8", ["metaworld_mt50"], "random and fixed order"),
    "9": ("metaworld.figure_9", ["metaworld_mt10"], "multi-head SAC"),
    "10": (
        "metaworld_gallery.figure_10",
        ["gallery/tasks.npz", "gallery/tasks.json"],
        "MT50's tasks",
    ),
    "tasks": (
        "metaworld.figure_tasks",
        ["metaworld_mt3", "metaworld_mt10", "metaworld_alone"],
        "success of every task",
    ),
    "conflicts": ("metaworld.figure_conflicts", ["metaworld_mt3", "metaworld_mt10"], "conflicts"),
}


def inputs(shown):
    """What an entry reads: the runs of its experiments, or files of the scale."""
    if any(Path(name).suffix for name in shown):
        return {"files": [f"<results>/{name}" for name in shown]}
    return {"runs": runs(*shown)}


def here(outputs):
    """The entries whose experiments the scale's config has."""
    return {
        name: entry
        for name, entry in outputs.items()
        if all(Path(shown).suffix or shown in config["experiments"] for shown in entry[1])
    }


def module_of(writer):
    """The file that writes an output."""
    return f"experiments/{writer.partition(':')[0].replace('.', '/')}.py"


def caption(writer):
    """The caption of an output in Snakemake's report."""
    path = Path(module_of(writer)).relative_to("experiments")
    own = path.parent / "captions" / f"{path.stem}.rst"
    folder = Path(workflow.basedir) / "experiments"
    return str(own if (folder / own).is_file() else "captions/output.rst")


# A table that no entry names is its experiment's own.
LISTED = {writer.partition(":")[0] for writer, *_ in TABLES.values()}
TABLES |= {
    name: (f"{experiment}.table_{name}:TABLE", [experiment], name, [])
    for experiment, name in zip(*glob_wildcards("experiments/{experiment,[^/]+}/table_{name}.py"))
    if f"{experiment}.table_{name}" not in LISTED
}
TABLES, FIGURES = here(TABLES), here(FIGURES)


for name, (writer, shown, words, reported) in TABLES.items():

    rule:
        name:
            f"table_{name}"
        input:
            **inputs(shown),
            reported=expand("experiments/reported/{file}.csv", file=reported),
            labels="src/reporting/labels.csv",
        output:
            csv=f"<results>/tables/table_{name}.csv",
            md=f"<results>/tables/table_{name}.md",
            tex=f"<results>/tables/table_{name}.tex",
            html=report(
                f"<results>/tables/table_{name}.html",
                caption=caption(writer),
                category="Tables",
                labels={"table": name, "shows": words},
            ),
        log:
            f"<logs>/table_{name}.log",
        benchmark:
            f"<benchmarks>/table_{name}.tsv"
        conda:
            "../environment.yml"
        threads: 1
        resources:
            gpu=0,
            mem_mb=2000,
            runtime=10,
        params:
            writer=writer,
            caption=f"experiments/{caption(writer)}",
            scale=config["scale"],
            code=script_hash(module_of(writer)),
            more={"paper": paper_settings(shown[0])} if ":" in writer else {},
        script:
            "output.py"


for number, (writer, shown, words) in FIGURES.items():

    rule:
        name:
            f"figure_{number}"
        input:
            **inputs(shown),
            reported="experiments/reported/figures.csv",
            labels="src/reporting/labels.csv",
        output:
            png=f"<results>/figures/figure_{number}.png",
            html=report(
                f"<results>/figures/figure_{number}.html",
                caption=caption(writer),
                category="Figures",
                # The report sorts labels as text.
                labels={"figure": number.zfill(2), "shows": words},
            ),
            pdf=f"<results>/figures/figure_{number}.pdf",
        log:
            f"<logs>/figure_{number}.log",
        benchmark:
            f"<benchmarks>/figure_{number}.tsv"
        conda:
            "../environment.yml"
        threads: 1
        resources:
            gpu=0,
            mem_mb=1000,
            runtime=10,
        params:
            writer=writer,
            caption=f"experiments/{caption(writer)}",
            scale=config["scale"],
            code=script_hash(module_of(writer)),
            more={},
        script:
            "output.py"
