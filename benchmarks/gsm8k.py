"""What examples/gsm8k_qwen3.py costs: each recipe in a process of its own, whose peak memory is then that recipe's.

python benchmarks/gsm8k.py --data-folder DATA --out benchmarks/results/gsm8k.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

EXAMPLE = Path(__file__).parents[1] / "examples" / "gsm8k_qwen3.py"
RECIPES = ("gkd", "opd", "tropd", "opsd")
STEPS, MAX_NEW_TOKENS = 8, 64


def measure(recipe: str, *, data_folder: Path, folder: Path) -> dict[str, Any]:
    figures = folder / f"{recipe}.json"
    options = {"data-folder": data_folder, "output": folder, "recipes": recipe, "json": figures}
    options |= {"num-steps": STEPS, "max-new-tokens": MAX_NEW_TOKENS}
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    subprocess.run([sys.executable, str(EXAMPLE), *flags], check=True)
    found = json.loads(figures.read_text())
    return {"peak_memory_mib": found["peak_memory_mib"], **found["runs"][0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [measure(recipe, data_folder=arguments.data_folder, folder=Path(folder)) for recipe in RECIPES]
    versions = {"torch": torch.__version__.split("+")[0], "threads": 1, "max_new_tokens": MAX_NEW_TOKENS}
    arguments.out.write_text(json.dumps(versions | {"runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
