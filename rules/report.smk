"""What people read: pure functions of records, rebuilt without torch."""

from surefoot.story import build_story

TABLE_FILES = expand("results/tables/{name}.{form}", name=PLAN.tables, form=["csv", "md", "tex"])
FIGURE_FILES = expand("results/figures/{name}.{form}", name=PLAN.figures, form=["svg", "png", "csv"])
STORY = build_story(PLAN)


rule make_tables:
    input:
        metrics=PLAN.evaluations("metrics.parquet") + SEARCHES.evaluations("metrics.parquet"),
        predictions=PLAN.evaluations("predictions.parquet") + SEARCHES.evaluations("predictions.parquet"),
        meters=PLAN.meters() + SEARCHES.finals("meter.json"),
        adapt_meters=PLAN.adaptations("adapt", "meter.json"),
        inference=PLAN.inference_files(),
        trials=PLAN.adaptations("adapt", "trials.parquet"),
        adapted=PLAN.adaptations("adapt", "predictions.parquet"),
        factors=PLAN.adaptations("adapt", "factors.parquet"),
        objectives=SEARCHES.files("objective.yaml"),
        searches=SEARCHES.searches("trials.parquet"),
        search_meters=SEARCHES.searches("meter.json"),
        finals=SEARCHES.finals("record.json"),
        lengths=SEARCHES.analyses("lengths"),
        without=SEARCHES.analyses("without"),
        online=PLAN.adaptations("online", "predictions.parquet"),
        published=PLAN.published,
    output:
        tables=[
            report(
                f"results/tables/{name}.csv",
                caption=f"../report/table-{name}.rst",
                category="Tables",
                labels={"table": name},
            )
            for name in PLAN.tables
        ],
        printed=expand("results/tables/{name}.{form}", name=PLAN.tables, form=["md", "tex"]),
    log:
        "results/logs/tables.log",
    benchmark:
        "results/benchmarks/tables.tsv"
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=30,
    params:
        story=STORY,
        code=code_digest("make_tables"),
    message:
        "Make the tables"
    script:
        "../scripts/make_tables.py"


rule draw_figures:
    input:
        tables=expand("results/tables/{name}.csv", name=PLAN.tables),
    output:
        figures=[
            report(
                f"results/figures/{name}.svg",
                caption=f"../report/figure-{name}.rst",
                category="Figures",
                labels={"figure": name},
            )
            for name in PLAN.figures
        ],
        others=expand("results/figures/{name}.{form}", name=PLAN.figures, form=["png", "csv"]),
    log:
        "results/logs/figures.log",
    benchmark:
        "results/benchmarks/figures.tsv"
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=30,
    params:
        story=STORY,
        code=code_digest("draw_figures"),
    message:
        "Draw the figures"
    script:
        "../scripts/draw_figures.py"


rule write_report:
    input:
        tables=expand("results/tables/{name}.csv", name=PLAN.tables),
        figures=expand("results/figures/{name}.svg", name=PLAN.figures),
        cards=expand("results/tables/task-{task}.md", task=PLAN.shown_tasks()),
        sheets=expand("results/figures/contact-{task}.png", task=PLAN.shown_tasks()),
    output:
        page=report(
            "results/report.html",
            caption="../report/page.rst",
            category="Summary",
            labels={"page": "everything on one page"},
        ),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=10,
    params:
        story=STORY,
        code=code_digest("write_report", "surefoot/report.html.j2"),
    message:
        "Write the report"
    script:
        "../scripts/write_report.py"


rule tables:
    input:
        TABLE_FILES,


rule figures:
    input:
        FIGURE_FILES,


rule verify:
    log:
        "results/logs/verify.log",
    threads: 1
    resources:
        mem_mb=LIGHT_MB,
        runtime=60,
    message:
        "Verify that every file below results/ is what the job that made it wrote"
    script:
        "../scripts/verify.py"
