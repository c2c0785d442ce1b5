"""Surgical fine-tuning: source models adapted to targets; one job per (task, method) does all seeds and rates."""


rule adapt:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        sources=PLAN.source_weights,
        records=PLAN.source_records,
        splits=PLAN.splits,
    output:
        trials="results/adapt/{task}/{model}/{method}/trials.parquet",
        predictions="results/adapt/{task}/{model}/{method}/predictions.parquet",
        factors="results/adapt/{task}/{model}/{method}/factors.parquet",
        meter="results/adapt/{task}/{model}/{method}/meter.json",
    log:
        "results/logs/adapt/{task}/{model}/{method}.log",
    benchmark:
        "results/benchmarks/adapt/{task}/{model}/{method}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=PLAN.compute_mb,
        runtime=720,
    params:
        task=PLAN.task_entry,
        method=PLAN.adapt_entry,
        seeds=PLAN.config.seeds,
        rates=PLAN.config.surgical.learning_rates,
        shots=PLAN.config.surgical.shots,
        code=code_digest("adapt"),
    message:
        "Adapt {wildcards.model} to the targets of {wildcards.task} with {wildcards.method}"
    script:
        "../scripts/adapt.py"


rule adapt_online:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        sources=PLAN.source_weights,
        records=PLAN.source_records,
        splits=PLAN.splits,
    output:
        trials="results/online/{task}/{model}/{method}/trials.parquet",
        predictions="results/online/{task}/{model}/{method}/predictions.parquet",
    log:
        "results/logs/online/{task}/{model}/{method}.log",
    benchmark:
        "results/benchmarks/online/{task}/{model}/{method}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=PLAN.compute_mb,
        runtime=720,
    params:
        task=PLAN.task_entry,
        method=PLAN.online_entry,
        seeds=PLAN.config.seeds,
        rates=PLAN.config.online.learning_rates,
        copies=PLAN.config.online.copies,
        code=code_digest("adapt_online"),
    message:
        "Adapt {wildcards.model} online to {wildcards.task} with {wildcards.method}"
    script:
        "../scripts/adapt_online.py"
