"""Fine-tuning: one job a run, or one job for all seeds of a method where runs are short (seeds_per_job)."""

# With shared jobs the seeds are spelt out in the outputs, otherwise they are a wildcard.
SHARED = PLAN.config.seeds_per_job == "all"
JOB = "seeds" if SHARED else "seed-{seed}"


rule finetune:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        bases=PLAN.base_weights,
        base_records=PLAN.base_records,
        splits=PLAN.splits,
    output:
        weights=PLAN.per_seed("results/finetune/{task}/{model}/{method}/seed-{seed}/weights.safetensors"),
        record=PLAN.per_seed("results/finetune/{task}/{model}/{method}/seed-{seed}/record.json"),
        meter=PLAN.per_seed("results/finetune/{task}/{model}/{method}/seed-{seed}/meter.json"),
    log:
        f"results/logs/finetune/{{task}}/{{model}}/{{method}}/{JOB}.log",
    benchmark:
        f"results/benchmarks/finetune/{{task}}/{{model}}/{{method}}/{JOB}.tsv"
    threads: PLAN.threads
    resources:
        gpu=1,
        mem_mb=PLAN.compute_mb,
        runtime=720,
    params:
        task=PLAN.task_entry,
        method=PLAN.method_entry,
        code=code_digest("finetune"),
    message:
        "Fine-tune {wildcards.model} on {wildcards.task} with {wildcards.method}"
    script:
        "../scripts/finetune.py"


if SHARED:

    use rule finetune as finetune_partners with:
        input:
            model="results/models/{model}",
            head="results/zeroshot/{task}/{model}/head.safetensors",
            bases=PLAN.partner_base_weights,
            base_records=PLAN.partner_base_records,
            splits=PLAN.splits,
        output:
            weights=PLAN.per_partner("results/finetune/{task}/{model}/{method}/seed-{seed}/weights.safetensors"),
            record=PLAN.per_partner("results/finetune/{task}/{model}/{method}/seed-{seed}/record.json"),
            meter=PLAN.per_partner("results/finetune/{task}/{model}/{method}/seed-{seed}/meter.json"),
        log:
            "results/logs/finetune/{task}/{model}/{method}/partners.log",
        benchmark:
            "results/benchmarks/finetune/{task}/{model}/{method}/partners.tsv"
        params:
            task=PLAN.task_entry,
            method=PLAN.method_entry,
            code=code_digest("finetune"),
        message:
            "Fine-tune the partners of {wildcards.method} for ensembles of two seeds on {wildcards.task}"
