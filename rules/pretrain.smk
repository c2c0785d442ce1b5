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
        mem_mb=PLAN.compute_mb,
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


rule model_card:
    input:
        model="results/models/emoji-clip",
        made="resources/emoji-clip/pretrain.json",
        head="results/zeroshot/emoji-style/emoji-clip/head.safetensors",
        splits=PLAN.pretraining_splits(),
        metrics="results/evaluate/emoji-style/emoji-clip/ft/metrics.parquet",
        predictions="results/evaluate/emoji-style/emoji-clip/ft/predictions.parquet",
    output:
        card="results/tables/model-emoji-clip.md",
        draws="results/tables/model-emoji-clip-draws.csv",
    log:
        "results/logs/cards/emoji-clip.log",
    threads: 1
    resources:
        mem_mb=PLAN.compute_mb,
        runtime=30,
    params:
        task=PLAN.task_entry_of("emoji-style"),
        bootstrap=PLAN.config.bootstrap.model_dump(),
        code=code_digest("write_model_card"),
    message:
        "Write the card of the embedded CLIP"
    script:
        "../scripts/write_model_card.py"
