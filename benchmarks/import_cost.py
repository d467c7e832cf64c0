"""What the hook adds to `import torch`: processor time of loading the entry point and calling it, in fresh processes.

python -m benchmarks.import_cost
"""

import os
import statistics
import subprocess
import sys

from solopo_llamafactory.common.markdown import row, table


RUNS = 30
MEASURE = """
import importlib.metadata, sys, time
(entry,) = (e for e in importlib.metadata.entry_points(group="torch.backends") if e.name == "solopo_llamafactory")
# By the time torch calls the entry point, it has loaded these and listed the folders of sys.path.
import importlib, importlib.util, inspect, json, typing_extensions
start = time.process_time()  # of this process alone, whatever else the machine does
entry.load()()
print(time.process_time() - start)
"""


def milliseconds(disabled: str) -> list[float]:
    environment = os.environ | {"SOLOPO_DISABLE": disabled}
    command = [sys.executable, "-c", MEASURE]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(RUNS)]
    return sorted(float(run.stdout) * 1000 for run in runs)


def main() -> None:
    print(table([f"{RUNS} processes each", "least", "median", "most"], []))
    for name, disabled in (("hook installed", "0"), ("`SOLOPO_DISABLE=1`", "1")):
        times = milliseconds(disabled)
        print(row([name, *(f"{time:.2f} ms" for time in (times[0], statistics.median(times), times[-1]))]))


if __name__ == "__main__":
    main()
