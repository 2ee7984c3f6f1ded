"""Write one figure or table of outputs.smk; the rule names the object that writes it."""
# mypy: disable-error-code=name-defined

from importlib import import_module

module, _, name = snakemake.params.writer.partition(":")
writer = import_module(f"experiments.{module}")
if name:
    writer = getattr(writer, name)
given = snakemake.input
inputs = list(given.files) if "files" in given.keys() else [list(given.runs)]  # noqa: SIM118
writer.write(*inputs, **dict(snakemake.output.items()), **snakemake.params.more)
