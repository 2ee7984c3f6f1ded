rule notebook:
    """Execute one notebook; keep it, and the same as a page that needs no network."""
    input:
        notebook="notebooks/{name}.ipynb",
        proofs=expand("<results>/proofs/{statement}.json", statement=STATEMENTS),
        # Its last picture is drawn where the scale trains Figure 4.
        runs=lambda wildcards: (
            runs(*({"triad"} & {*config["experiments"]})) if wildcards.name == "overview" else []
        ),
    output:
        page=report(
            "<results>/notebooks/{name}.html",
            caption="captions/notebook.rst",
            category="Notebooks",
            labels={"notebook": "{name}"},
        ),
        executed="<results>/notebooks/{name}.ipynb",
    log:
        "<logs>/notebook_{name}.log",
    benchmark:
        "<benchmarks>/notebook_{name}.tsv"
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=30,
    params:
        code=code("src/pcgrad", "proofs"),
        results=subpath(output[0], ancestor=2),
        folder=subpath(output[0], parent=True),
    shell:
        "(PCGRAD_RESULTS=$PWD/{params.results:q} jupyter nbconvert --execute --to notebook"
        " --output-dir {params.folder:q} {input.notebook:q}"
        " && python -m proofs.document page {output.executed:q} {output.page:q}) > {log:q} 2>&1"


rule notebooks:
    """Every notebook."""
    input:
        expand("<results>/notebooks/{name}.html", name=["overview", "theorem1", "theorem2"]),
    localrule: True
