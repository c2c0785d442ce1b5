"""The two-layer demonstration of surgical fine-tuning's theory; it needs no data and no model."""


rule run_theory:
    output:
        table="results/tables/theory.csv",
    log:
        "results/logs/theory.log",
    benchmark:
        "results/benchmarks/theory.tsv"
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=30,
    params:
        code=code_digest("run_theory"),
    message:
        "Tune two-layer networks under shifts"
    script:
        "../scripts/run_theory.py"


rule draw_theory:
    input:
        table="results/tables/theory.csv",
    output:
        figure=report(
            "results/figures/theory.svg",
            caption="../report/figure-theory.rst",
            category="Figures",
            labels={"figure": "theory"},
        ),
        others=expand("results/figures/theory.{form}", form=["png", "csv"]),
    log:
        "results/logs/theory-figure.log",
    benchmark:
        "results/benchmarks/theory-figure.tsv"
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=30,
    params:
        code=code_digest("draw_theory"),
    message:
        "Draw the figure of the two-layer networks"
    script:
        "../scripts/draw_theory.py"


rule theory:
    input:
        rules.draw_theory.output,
