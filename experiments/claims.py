"""Write the ledger of claims at one scale (rule `claims`)."""
# mypy: disable-error-code=name-defined

from reporting.ledger.claims import write
from system import command

if __name__ == "__main__":
    given, made, scale = snakemake.input, snakemake.output, snakemake.params.scale
    files = {"csv": made.csv, "md": made.md, "html": made.get("html")}
    with command.script(snakemake.log[0]):
        write(
            given.ledger, given.runs, given.landscape, given.proofs, given.gallery, scale, **files
        )
