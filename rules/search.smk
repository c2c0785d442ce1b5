"""Searches for a learned objective: rounds of short runs, each proposed from the records of the rounds before.

With one shard a job makes all rounds of a search; with more, every round is made by as many jobs.
"""

SEARCH = "results/search/{task}/{model}/{space}/search-{search_seed}"
TAKEN = [name for name, space in PLAN.config.spaces.items() if space.learned]
FINAL = "results/finetune/{task}/{model}/{space}@search-{search_seed}/seed-{seed}"


wildcard_constraints:
    space=flow.either(PLAN.config.spaces),
    search_seed=r"\d+",
    round=r"\d+",
    shard=r"\d+",


rule search:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        bases=SEARCHES.base_weights,
        base_records=SEARCHES.base_records,
        splits=PLAN.splits,
    output:
        trials=SEARCHES.trial_files(SEARCH),
        meters=[f"{SEARCH}/round-0/shard-0.meter.json"],
    log:
        "results/logs/search/{task}/{model}/{space}/search-{search_seed}.log",
    benchmark:
        "results/benchmarks/search/{task}/{model}/{space}/search-{search_seed}.tsv"
    threads: PLAN.threads
    resources:
        gpu=1,
        mem_mb=PLAN.compute_mb,
        runtime=1440,
    params:
        task=PLAN.task_entry,
        space=SEARCHES.search_entry,
        rounds=SEARCHES.numbers,
        shards=PLAN.config.search.shards,
        code=code_digest("search"),
    message:
        "Search {wildcards.space} with {wildcards.model} on {wildcards.task}, seed {wildcards.search_seed}"
    script:
        "../scripts/search.py"


use rule search as search_shard with:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        bases=SEARCHES.base_weights,
        base_records=SEARCHES.base_records,
        splits=PLAN.splits,
        history=SEARCHES.history,
    output:
        trials=f"{SEARCH}/round-{{round}}/shard-{{shard}}.parquet",
        meters=f"{SEARCH}/round-{{round}}/shard-{{shard}}.meter.json",
    log:
        "results/logs/search/{task}/{model}/{space}/search-{search_seed}/round-{round}-shard-{shard}.log",
    benchmark:
        "results/benchmarks/search/{task}/{model}/{space}/search-{search_seed}/round-{round}-shard-{shard}.tsv"
    message:
        "Search {wildcards.space} with {wildcards.model} on {wildcards.task}, seed {wildcards.search_seed}: "
        "round {wildcards.round}, shard {wildcards.shard}"


# The two make files of the same names.
if PLAN.config.search.shards > 1:

    ruleorder: search_shard > search

else:

    ruleorder: search > search_shard


rule learn:
    input:
        trials=SEARCHES.all_trials,
        meters=SEARCHES.job_meters,
    output:
        objective=f"{SEARCH}/objective.yaml",
        trials=f"{SEARCH}/trials.parquet",
        meter=f"{SEARCH}/meter.json",
    log:
        "results/logs/search/{task}/{model}/{space}/search-{search_seed}/learn.log",
    wildcard_constraints:
        space=flow.either(set(PLAN.config.spaces) - set(TAKEN)),
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=10,
    params:
        space=SEARCHES.search_entry,
        trials=PLAN.config.search.trials,
        code=code_digest("learn"),
    message:
        "Learn the objective of {wildcards.space} on {wildcards.task}, seed {wildcards.search_seed}"
    script:
        "../scripts/learn.py"


# The objective of a space that is learned on another task.
rule take_objective:
    input:
        objective=SEARCHES.source,
    output:
        objective=f"{SEARCH}/objective.yaml",
    log:
        "results/logs/search/{task}/{model}/{space}/search-{search_seed}/take.log",
    wildcard_constraints:
        space=flow.either(TAKEN),
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=10,
    params:
        code=code_digest("take_objective"),
    message:
        "Take the objective of {wildcards.space} for {wildcards.task}, seed {wildcards.search_seed}"
    script:
        "../scripts/take_objective.py"


use rule finetune as finetune_learned with:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        objective=f"{SEARCH}/objective.yaml",
        bases=SEARCHES.base_weights,
        base_records=SEARCHES.base_records,
        splits=PLAN.splits,
    output:
        weights=f"{FINAL}/weights.safetensors",
        record=f"{FINAL}/record.json",
        meter=f"{FINAL}/meter.json",
    log:
        "results/logs/finetune/{task}/{model}/{space}@search-{search_seed}/seed-{seed}.log",
    benchmark:
        "results/benchmarks/finetune/{task}/{model}/{space}@search-{search_seed}/seed-{seed}.tsv"
    params:
        task=PLAN.task_entry,
        method=SEARCHES.space_entry,
        code=code_digest("finetune"),
    message:
        "Fine-tune {wildcards.model} on {wildcards.task} with what {wildcards.space} learned, seed {wildcards.seed}"


use rule evaluate as evaluate_learned with:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        ends=SEARCHES.final_weights,
        records=SEARCHES.final_records,
        splits=PLAN.splits,
    output:
        metrics="results/evaluate/{task}/{model}/{space}/metrics.parquet",
        predictions="results/evaluate/{task}/{model}/{space}/predictions.parquet",
        meter="results/evaluate/{task}/{model}/{space}/meter.json",
    log:
        "results/logs/evaluate/{task}/{model}/{space}.log",
    benchmark:
        "results/benchmarks/evaluate/{task}/{model}/{space}.tsv"
    params:
        task=PLAN.task_entry,
        seeds=SEARCHES.run_seeds,
        alphas=PLAN.config.alphas,
        batch=PLAN.config.evaluation_batch,
        renders=PLAN.config.renders,
        code=code_digest("evaluate"),
    message:
        "Evaluate what {wildcards.space} learned with {wildcards.model} on {wildcards.task}"


rule search_lengths:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        bases=SEARCHES.base_weights,
        base_records=SEARCHES.base_records,
        splits=PLAN.splits,
    output:
        scores=f"{SEARCH}/lengths.parquet",
    log:
        "results/logs/search/{task}/{model}/{space}/search-{search_seed}/lengths.log",
    benchmark:
        "results/benchmarks/search/{task}/{model}/{space}/search-{search_seed}/lengths.tsv"
    threads: PLAN.threads
    resources:
        gpu=1,
        mem_mb=PLAN.compute_mb,
        runtime=1440,
    params:
        task=PLAN.task_entry,
        space=SEARCHES.space_entry,
        proposals=PLAN.config.search.lengths.proposals,
        steps=PLAN.config.search.lengths.steps,
        code=code_digest("analyse_search"),
    message:
        "Compare short and full runs of {wildcards.space} on {wildcards.task}, seed {wildcards.search_seed}"
    script:
        "../scripts/analyse_search.py"


use rule search_lengths as search_without with:
    input:
        model="results/models/{model}",
        head="results/zeroshot/{task}/{model}/head.safetensors",
        objective=f"{SEARCH}/objective.yaml",
        bases=SEARCHES.base_weights,
        base_records=SEARCHES.base_records,
        splits=PLAN.splits,
    output:
        scores=f"{SEARCH}/without.parquet",
    log:
        "results/logs/search/{task}/{model}/{space}/search-{search_seed}/without.log",
    benchmark:
        "results/benchmarks/search/{task}/{model}/{space}/search-{search_seed}/without.tsv"
    params:
        task=PLAN.task_entry,
        space=SEARCHES.space_entry,
        repeats=PLAN.config.search.without.repeats,
        code=code_digest("analyse_search"),
    message:
        "Leave out each term that {wildcards.space} learned on {wildcards.task}, seed {wildcards.search_seed}"


rule export_study:
    input:
        trials=SEARCHES.searches("trials.parquet"),
    output:
        study="results/search/study.db",
    log:
        "results/logs/search/study.log",
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=30,
    params:
        spaces=SEARCHES.dimensions,
        code=code_digest("export_study"),
    message:
        "Export the searches to an Optuna storage"
    script:
        "../scripts/export_study.py"


rule study:
    input:
        "results/search/study.db",
