"""Table of contents: what there is to build, and where its rules are."""

from snakemake.utils import min_version

min_version("9.27")


if "experiments" not in config:  # no --configfile: a scale's file is not merged with another's

    configfile: "config/quick.yaml"


report: f"results/{config['scale']}/front.rst"


include: "experiments/common.smk"


if not RENDER:  # what is there is read as it is

    include: "experiments/train.smk"


include: "experiments/landscape/rules.smk"
include: "experiments/metaworld/rules.smk"
include: "experiments/metaworld_gallery/rules.smk"
include: "proofs/rules.smk"
include: "experiments/outputs.smk"
include: "notebooks/rules.smk"
include: "experiments/targets.smk"
include: "report/rules.smk"


rule all:
    """Everything of this scale."""
    default_target: True
    input:
        rules.figures.input,
        rules.tables.input,
        rules.theory.input,
        rules.notebooks.input,
        rules.claims.output,
        rules.overview.output,
        rules.article.output,
    localrule: True
