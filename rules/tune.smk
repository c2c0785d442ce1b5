"""Recipes chosen on validation images: one job a method tries its whole grid (target `tune`)."""


rule tune_method:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        bases=PLAN.base_weights,
        base_records=PLAN.base_records,
        splits=PLAN.splits,
    output:
        trials="results/tune/{task}/{model}/{method}/trials.parquet",
    log:
        "results/logs/tune/{task}/{model}/{method}.log",
    benchmark:
        "results/benchmarks/tune/{task}/{model}/{method}.tsv"
    threads: PLAN.threads
    resources:
        gpu=1,
        mem_mb=PLAN.compute_mb,
        runtime=1440,
    params:
        task=PLAN.task_entry,
        grid=PLAN.grid,
        seeds=PLAN.config.seeds,
        code=code_digest("tune"),
    message:
        "Tune {wildcards.method} with {wildcards.model} on validation images of {wildcards.task}"
    script:
        "../scripts/tune.py"


rule tuning_table:
    input:
        trials=PLAN.tuning_files(),
    output:
        table="results/tables/tuning.csv",
        printed=expand("results/tables/tuning.{form}", form=["md", "tex"]),
    log:
        "results/logs/tune/table.log",
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=10,
    params:
        eval_set=PLAN.config.tuning.eval_set,
        labels=STORY["labels"],
        code=code_digest("make_tuning_table"),
    message:
        "Make the table of what tuning tried and chose"
    script:
        "../scripts/make_tuning_table.py"


rule tune:
    input:
        "results/tables/tuning.csv",
