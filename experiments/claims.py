"""The ledger of claims at one scale (rule `claims`)."""

from reporting.claims import write

if __name__ == "__main__":
    snakemake = globals()["snakemake"]  # put there by Snakemake

    given, made = snakemake.input, snakemake.output
    write(given.ledger, given.runs, given.landscape, given.proofs, snakemake.params.scale, csv=made.csv, md=made.md)
