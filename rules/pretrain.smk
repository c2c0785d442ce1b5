"""The embedded CLIP, made from nothing; its weights ship in resources/, so the default run does not need this."""


rule pretrain_model:
    input:
        architecture="resources/emoji-clip/architecture.json",
        splits=PLAN.pretraining_splits(),
    output:
        model=directory("results/pretrain/emoji-clip"),
    log:
        "results/logs/pretrain/emoji-clip.log",
    benchmark:
        "results/benchmarks/pretrain/emoji-clip.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=COMPUTE_MB,
        runtime=480,
    params:
        how=PLAN.config.pretraining.model_dump(),
        state="results/.state/pretrain/emoji-clip",
        code=code_digest("pretrain_model"),
    message:
        "Pre-train the embedded CLIP from nothing"
    script:
        "../scripts/pretrain_model.py"


rule pretrain:
    input:
        "results/pretrain/emoji-clip",
