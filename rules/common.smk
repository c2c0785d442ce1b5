"""Binds the config to the library. Logic lives in surefoot/, where it is tested without Snakemake."""

import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from snakemake.exceptions import WorkflowError
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from surefoot import flow
from surefoot.budget import estimate
from surefoot.cancel import cancel_all, survive_term
from surefoot.config import parse_config
from surefoot.files import UserError
from surefoot.flow_search import Searches
from surefoot.fingerprint import code_digest, keep_parsed, share_library

share_library()
cancel_all(RemoteExecutor)
survive_term(JobScheduler)
try:
    PLAN = flow.Plan(parse_config(config, map(Path, workflow.configfiles)))
    PLAN.check()
    SEARCHES = Searches(PLAN)
    SEARCHES.check()
    if workflow.output_settings.dryrun:
        budget = estimate(SEARCHES)
        notes = budget.lines(PLAN.config.estimate_tflops) if budget else []
        for line in notes + SEARCHES.unequal_budgets():
            print(line, file=sys.stderr)
except UserError as error:
    raise WorkflowError(str(error)) from None
except ModuleNotFoundError as error:
    raise WorkflowError(f"the package {error.name} is missing; make the environment with `make env`") from None


wildcard_constraints:
    task=flow.either(PLAN.config.tasks),
    model=flow.either(PLAN.config.models),
    method=flow.either(PLAN.config.methods),
    dataset="[A-Za-z0-9_@-]+",
    split=r"[A-Za-z0-9._-]+",
    source="[a-z0-9_-]+",
    seed=r"\d+",
    alpha=r"\d+(\.\d+)?",


# Memory in MB of rules that load no model. Local runs ignore it, clusters need it.
LIGHT_MB = 2000
