"""The zero-shot head: the start of every method."""


rule zero_shot:
    input:
        model="results/models/{model}",
    output:
        head="results/zeroshot/{task}/{model}/head.safetensors",
    log:
        "results/logs/zeroshot/{task}/{model}.log",
    benchmark:
        "results/benchmarks/zeroshot/{task}/{model}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=PLAN.compute_mb,
        runtime=30,
    params:
        task=PLAN.task_entry,
        code=code_digest("make_zero_shot_head"),
    message:
        "Make the zero-shot head of {wildcards.model} for {wildcards.task}"
    script:
        "../scripts/make_zero_shot_head.py"
