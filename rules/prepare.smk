"""Data sets and models as files of one form."""


rule prepare:
    input:
        raw=PLAN.raw_data,
    output:
        images="results/data/{dataset}/{split}/images.npy",
        rows="results/data/{dataset}/{split}/rows.parquet",
        manifest="results/data/{dataset}/{split}/split.json",
    log:
        "results/logs/prepare/{dataset}/{split}.log",
    benchmark:
        "results/benchmarks/prepare/{dataset}/{split}.tsv"
    threads: PLAN.threads
    resources:
        mem_mb=LIGHT_MB,
        runtime=PLAN.prepare_minutes,
    params:
        size=PLAN.size,
        entry=PLAN.data_entry,
        check=PLAN.config.check_sizes,
        code=code_digest("prepare"),
    message:
        "Prepare split {wildcards.split} of {wildcards.dataset}"
    script:
        "../scripts/prepare.py"


rule fetch_model:
    input:
        files=lambda wildcards: PLAN.config.models[wildcards.model].files,
    output:
        model=directory("results/models/{model}"),
    log:
        "results/logs/models/{model}.log",
    benchmark:
        "results/benchmarks/models/{model}.tsv"
    threads: 1
    resources:
        mem_mb=PLAN.compute_mb,
        runtime=60,
    params:
        source=lambda wildcards: PLAN.config.models[wildcards.model].model_dump(),
        code=code_digest("fetch_model"),
    message:
        "Fetch CLIP model {wildcards.model}"
    script:
        "../scripts/fetch_model.py"


rule task_card:
    input:
        rows=lambda wildcards: [file for file in PLAN.splits(wildcards) if file.endswith("rows.parquet")],
    output:
        card=report(
            "results/tables/task-{task}.md",
            caption="../report/task.rst",
            category="Data",
            labels={"task": "{task}", "item": "card"},
        ),
    log:
        "results/logs/cards/{task}.log",
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=10,
    params:
        task=PLAN.task_entry,
        metric=PLAN.metric,
        seed=PLAN.config.seeds[0],
        code=code_digest("write_task_card"),
    message:
        "Write the card of task {wildcards.task}"
    script:
        "../scripts/write_task_card.py"


rule contact_sheet:
    input:
        splits=PLAN.splits,
    output:
        png=report(
            "results/figures/contact-{task}.png",
            caption="../report/contact.rst",
            category="Data",
            labels={"task": "{task}", "item": "contact sheet"},
        ),
    log:
        "results/logs/cards/contact-{task}.log",
    benchmark:
        "results/benchmarks/cards/contact-{task}.tsv"
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=10,
    params:
        task=PLAN.task_entry,
        code=code_digest("draw_contact_sheet"),
    message:
        "Draw the contact sheet of task {wildcards.task}"
    script:
        "../scripts/draw_contact_sheet.py"
