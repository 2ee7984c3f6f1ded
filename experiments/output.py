"""Write one figure or table of outputs.smk; the rule names the object that writes it.

Its page in Snakemake's report (`html`) has the caption beside the picture or above the table.
"""
# mypy: disable-error-code=name-defined

from importlib import import_module
from pathlib import Path

from reporting import pages
from system import command
from system.writing import write_text

module, _, name = snakemake.params.writer.partition(":")
writer = import_module(f"experiments.{module}")
if name:
    writer = getattr(writer, name)
given = snakemake.input
inputs = list(given.files) if "files" in given.keys() else [list(given.runs)]  # noqa: SIM118
with command.script(snakemake.log[0]):
    files = dict(snakemake.output.items())
    words = pages.caption(Path(snakemake.params.caption), snakemake)
    if "png" in files:
        page = Path(files.pop("html"))
        writer.write(*inputs, **files, **snakemake.params.more)
        write_text(page, pages.picture(Path(files["png"]), page.stem.replace("_", " "), words))
    else:
        page = Path(files["html"])
        writer.write(*inputs, **files, **snakemake.params.more)
        write_text(page, pages.table(page.read_text("utf-8"), words))
