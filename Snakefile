"""Table of contents: what there is to build, and where its rules are."""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/quick.yaml"


report: "report/workflow.rst"


include: "experiments/common.smk"
include: "experiments/train.smk"
include: "experiments/landscape/rules.smk"
include: "experiments/multimnist/rules.smk"
include: "experiments/cifar100/rules.smk"
include: "experiments/nyuv2/rules.smk"
include: "experiments/cityscapes/rules.smk"
include: "experiments/celeba/rules.smk"
include: "experiments/triad/rules.smk"
include: "experiments/metaworld/rules.smk"
include: "experiments/metaworld_gallery/rules.smk"
include: "experiments/goal_conditioned/rules.smk"
include: "proofs/rules.smk"
include: "experiments/theory/rules.smk"
include: "notebooks/rules.smk"
include: "experiments/targets.smk"


rule all:
    """Everything of this scale."""
    default_target: True
    input:
        rules.figures.input,
        rules.tables.input,
        rules.theory.input,
        rules.notebooks.input,
        rules.claims.output,
    localrule: True
