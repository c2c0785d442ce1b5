"""Published data sets: the user's own copy, or the makers' files."""


rule fetch_data:
    output:
        manifest="results/raw/{source}/source.json",
    log:
        "results/logs/raw/{source}.log",
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=1440,
    params:
        family=PLAN.source_family,
        data_root=PLAN.data_root,
        source=PLAN.source_entry,
        check=PLAN.config.check_sizes,
    message:
        "Get the data set {wildcards.source}"
    script:
        "../scripts/fetch_data.py"


rule download:
    input:
        PLAN.raw_files(),
