"""What every script does around its one call: log, manifest, and errors that a person can read."""

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from surefoot.files import UserError
from surefoot.provenance import Job, manifested
from surefoot.resume import leave


@contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Write log records and errors to the rule's log, and its manifest; end with one clear message on a mistake.

    A UserError is printed without a traceback, here and in the log; any other error goes to the log in full. TERM ends
    the job like Ctrl-C. What lives at begin and end is no garbage: without gc.freeze Python would look through all
    modules for cycles, in every full collection and for a second when it leaves (benchmarks/startup.py).
    """
    gc.freeze()
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", filename=log, filemode="w", force=True
    )
    signal.signal(signal.SIGTERM, leave)
    logger, start = logging.getLogger("surefoot"), time.monotonic()
    try:
        with manifested(
            Job(
                rule=snakemake.rule,
                wildcards=dict(snakemake.wildcards.items()),
                params=dict(snakemake.params.items()),
                inputs=paths(list(snakemake.input)),
                outputs=paths(list(snakemake.output)),
                log=log,
            )
        ):
            yield
    except UserError as error:
        logger.error("%s", error)
        print(f"\nsurefoot: {error}\n", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as stop:
        code = stop.code if isinstance(stop, SystemExit) else 130
        logger.error("interrupted")
        print("\nsurefoot: interrupted; run the same command again to go on\n", file=sys.stderr)
        sys.exit(code)
    except ModuleNotFoundError as error:
        logger.exception("a package is missing")
        print(
            f"\nsurefoot: the package {error.name} is missing; make the environment with `make env`\n", file=sys.stderr
        )
        sys.exit(1)
    except MemoryError:
        logger.exception("out of memory")
        print("\nsurefoot: out of memory; lower batch_size or evaluation_batch, or raise mem_mb\n", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        logger.exception("failed")
        if any(words in str(error).lower() for words in ("out of memory", "not enough memory")):  # GPU, CPU
            hint = (
                "lower batch_size or evaluation_batch, raise accumulation, or set out_of_memory: halve or precision: "
                "bfloat16 in the recipe"
            )
            print(f"\nsurefoot: {error}\n{hint}\n", file=sys.stderr)
            sys.exit(1)
        raise
    finally:
        gc.freeze()
    logger.info("done in %.1f s, process %d", time.monotonic() - start, os.getpid())


def paths(files: str | list[str]) -> list[Path]:
    """Paths of a named input or output, whether it holds one file or several."""
    return [Path(file) for file in ([files] if isinstance(files, str) else files)]
