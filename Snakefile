"""Surefoot: fine-tune CLIP so that it stays accurate under distribution shift."""

from snakemake.utils import min_version

min_version("9.19")


configfile: "config/config.yaml"


# The software is pinned in requirements.lock; this names the system it is tested on, for `--sdm apptainer`.
container: "docker://python:3.11-bookworm"


include: "rules/common.smk"
include: "rules/download.smk"
include: "rules/prepare.smk"
include: "rules/pretrain.smk"
include: "rules/zeroshot.smk"
include: "rules/finetune.smk"
include: "rules/evaluate.smk"
include: "rules/search.smk"
include: "rules/surgical.smk"
include: "rules/theory.smk"
include: "rules/export.smk"
include: "rules/report.smk"
include: "rules/tune.smk"


keep_parsed()


localrules:
    all,
    tables,
    figures,
    download,
    pretrain,
    tune,
    theory,
    study,
    export,
    verify,


rule all:
    default_target: True
    input:
        report="results/report.html",
        tables=TABLE_FILES,
        figures=FIGURE_FILES,
