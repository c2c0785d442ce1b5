"""Merged models for use elsewhere, which plain open_clip loads."""


rule export_model:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        end=PLAN.first_weights,
    output:
        model="results/export/{task}/{model}/{method}/alpha-{alpha}.safetensors",
        head="results/export/{task}/{model}/{method}/alpha-{alpha}.head.safetensors",
    log:
        "results/logs/export/{task}/{model}/{method}/alpha-{alpha}.log",
    threads: 1
    resources:
        mem_mb=PLAN.compute_mb,
        runtime=30,
    params:
        task=PLAN.task_entry,
        alpha=PLAN.alpha,
        code=code_digest("export_model"),
    message:
        "Export {wildcards.method} at alpha {wildcards.alpha}"
    script:
        "../scripts/export_model.py"


rule export:
    input:
        models=PLAN.export_files(),
