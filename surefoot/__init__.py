"""Fine-tuning CLIP so that it stays accurate under distribution shift."""

import gc

# Imports make hundreds of thousands of objects and no garbage; to look for cycles among them after every 700 costs
# every job time at its start (benchmarks/startup.py).
gc.set_threshold(50_000, 10, 10)
