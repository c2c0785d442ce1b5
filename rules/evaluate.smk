"""Evaluation along the line between two models; all seeds, all alphas, every image read once."""


rule evaluate:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        ends=PLAN.weights,
        records=PLAN.records,
        splits=PLAN.splits,
    output:
        metrics="results/evaluate/{task}/{model}/{method}/metrics.parquet",
        predictions="results/evaluate/{task}/{model}/{method}/predictions.parquet",
        meter="results/evaluate/{task}/{model}/{method}/meter.json",
    log:
        "results/logs/evaluate/{task}/{model}/{method}.log",
    benchmark:
        "results/benchmarks/evaluate/{task}/{model}/{method}.tsv"
    threads: PLAN.threads
    resources:
        gpu=1,
        mem_mb=PLAN.compute_mb,
        runtime=240,
    params:
        task=PLAN.task_entry,
        seeds=PLAN.config.seeds,
        alphas=PLAN.alphas,
        batch=PLAN.config.evaluation_batch,
        renders=PLAN.config.renders,
        code=code_digest("evaluate"),
    message:
        "Evaluate {wildcards.method} with {wildcards.model} on {wildcards.task}"
    script:
        "../scripts/evaluate.py"


use rule evaluate as evaluate_pair with:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        starts=PLAN.partner_weights,
        ends=PLAN.weights,
        records=PLAN.records,
        start_records=PLAN.partner_records,
        splits=PLAN.splits,
    output:
        metrics="results/evaluate/{task}/{model}/{method}.pair/metrics.parquet",
        predictions="results/evaluate/{task}/{model}/{method}.pair/predictions.parquet",
        meter="results/evaluate/{task}/{model}/{method}.pair/meter.json",
    log:
        "results/logs/evaluate/{task}/{model}/{method}.pair.log",
    benchmark:
        "results/benchmarks/evaluate/{task}/{model}/{method}.pair.tsv"
    params:
        task=PLAN.task_entry,
        seeds=PLAN.config.seeds,
        alphas=[0.0, 0.5, 1.0],
        batch=PLAN.config.evaluation_batch,
        renders=PLAN.config.renders,
        code=code_digest("evaluate"),
    message:
        "Evaluate two seeds of {wildcards.method} with {wildcards.model} on {wildcards.task}"


rule inference_cost:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        ends=PLAN.weights,
        splits=PLAN.splits,
    output:
        meter="results/evaluate/{task}/{model}/{method}/inference.json",
    log:
        "results/logs/inference/{task}/{model}/{method}.log",
    benchmark:
        "results/benchmarks/inference/{task}/{model}/{method}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=PLAN.compute_mb,
        runtime=30,
    params:
        task=PLAN.task_entry,
        seeds=PLAN.config.seeds,
        batch=PLAN.config.evaluation_batch,
        alpha=PLAN.config.fixed_alpha,
        code=code_digest("measure_inference"),
    message:
        "Measure what inference costs with {wildcards.method} on {wildcards.task}"
    script:
        "../scripts/measure_inference.py"
