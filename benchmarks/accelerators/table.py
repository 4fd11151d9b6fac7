"""What the compilers said of every program, checked: a table, a roofline, and exit status 1 where something is amiss.

    python benchmarks/accelerators/table.py FOLDER [--target v5e] [--out DIR]

Needs nothing but Python. A step's memory is the model's weights, what the walk holds while its widest program runs
(with that program's arguments and outputs), and the program's temporaries. A step's seconds on paper are, per program,
the larger of its operations over the device's rate and its bytes over the bandwidth, times how often it is called.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.accelerators.modules import amiss, exact

# peak of bfloat16 products in FLOP/s, bandwidth in bytes/s, as their makers state them; float32 at HIGHEST takes a TPU
# six passes of bfloat16, and an H100 its float32 units
DEVICES = {
    "v5e": {"bfloat16": 197e12, "float32": 197e12 / 6, "bandwidth": 819e9},
    "v4": {"bfloat16": 275e12, "float32": 275e12 / 6, "bandwidth": 1228e9},
    "v6e": {"bfloat16": 918e12, "float32": 918e12 / 6, "bandwidth": 1640e9},
    "h100": {"bfloat16": 989e12, "float32": 67e12, "bandwidth": 3352e9},
}
ROOFLINE, IMAGES = ("v5e", "v4", "h100"), 10_240
COLUMNS = ("model", "step", "precision", "programs", "peak_gb", "plan_gb", "plan_over_peak", "temporaries_mb")
COLUMNS += ("gflop", "gb_moved", "seconds_on_paper", "memory_bound_share", "seconds_to_compile")


def rows(folder: Path, target: str, device: str = "") -> tuple[list[dict[str, Any]], list[str]]:
    """One row per model, step and precision, and what is amiss; seconds are those of another `device` if one is named.

    What was compiled for one device says how many operations and bytes there are; another does them at its own rates.
    """
    lowered = json.loads((folder / "programs.json").read_text())
    path = folder / f"compiled-{target}.json"
    compiled = json.loads(path.read_text()) if path.exists() else {}
    made: dict[str, dict[str, Any]] = {}
    wrong = [f"{' '.join(json.loads(about).values())}: {error}" for about, error in lowered["errors"].items()]
    for name, program in lowered["programs"].items():
        module, done = (folder / f"{name}.mlir").read_text(), compiled.get(name, {"error": "not compiled"})
        for about, use in program["uses"].items():
            key = json.loads(about)
            where = f"{key['model']} {key['step']} {key['precision']} {name}"
            wrong += [f"{where}: {what}" for what in amiss(module, key["precision"])]
            plan = lowered["plans"].get(about, {"bytes": 0, "images": 0})
            zeros = {"plan": plan["bytes"], "images": plan["images"], "programs": 0, "missing": 0}
            row = made.setdefault(about, {**key, **zeros, **dict.fromkeys(NUMBERS, 0.0)})
            row["programs"] += 1
            if "error" in done:
                wrong.append(f"{where}: {done['error']}")
                row["missing"] += 1
                continue
            rate = "float32" if exact(module) else "bfloat16"
            add(row, program, done, use, lowered["weights"].get(key["model"], 0), DEVICES[device or target], rate)
    return list(made.values()), [*wrong, *filter(None, map(off, made.values()))]


NUMBERS = ("peak", "temporaries", "flop", "bytes", "seconds", "bound", "compile")


def off(row: dict[str, Any]) -> str:
    """What is to be said of a plan that is below the compiler's peak, or far above."""
    if row["missing"] or not row["plan"] or row["peak"] <= row["plan"] <= 1.5 * row["peak"]:
        return ""
    name = f"{row['model']} {row['step']} {row['precision']}"
    return f"{name}: the plan says {row['plan'] / 1e9:.2f} GB, the compiler {row['peak'] / 1e9:.2f}"


def add(
    row: dict[str, Any],
    program: dict[str, Any],
    done: dict[str, Any],
    use: dict[str, Any],
    weights: int,
    device: dict[str, float],
    rate: str,
) -> None:
    """Adds a program's calls to its step."""
    flop, moved = done["flop"] or 0.0, done["bytes"] or 0.0
    busy, waits = flop / device[rate], moved / device["bandwidth"]
    # what is held was counted as it lies on a host: whole tiles take more
    padding = done["arguments"] - program["weights"] - program["arguments"] + done["outputs"] - program["outputs"]
    row["peak"] = max(row["peak"], weights + use["held"] + max(0, padding) + done["temporaries"])
    row["temporaries"] = max(row["temporaries"], done["temporaries"])
    row["flop"] += flop * use["calls"]
    row["bytes"] += moved * use["calls"]
    row["seconds"] += max(busy, waits) * use["calls"]
    row["bound"] += waits * use["calls"] if waits > busy else 0.0
    row["compile"] += done["seconds"]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the units of the table; empty where a program is not compiled."""
    out = {name: row[name] for name in ("model", "step", "precision", "programs")}
    if row["missing"]:
        return out
    out["peak_gb"] = f"{row['peak'] / 1e9:.2f}"
    if row["plan"]:
        out |= {"plan_gb": f"{row['plan'] / 1e9:.2f}", "plan_over_peak": f"{row['plan'] / row['peak']:.2f}"}
    out |= {"temporaries_mb": f"{row['temporaries'] / 1e6:.0f}", "gflop": f"{row['flop'] / 1e9:.0f}"}
    out |= {"gb_moved": f"{row['bytes'] / 1e9:.1f}", "seconds_on_paper": f"{row['seconds']:.4f}"}
    bound = row["bound"] / row["seconds"] if row["seconds"] else 0
    return out | {"memory_bound_share": f"{bound:.2f}", "seconds_to_compile": f"{row['compile']:.0f}"}


def roofline(folder: Path, target: str) -> list[dict[str, Any]]:
    """Seconds on paper of each step for IMAGES images on several devices, beside the forward pass."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for device in ROOFLINE:
        made = [row for row in rows(folder, target, device)[0] if row["images"] and not row["missing"]]
        each = {(row["model"], row["step"], row["precision"]): row["seconds"] / row["images"] for row in made}
        for row in made:
            key = row["model"], row["step"], row["precision"]
            out = found.setdefault(key, dict(zip(("model", "step", "precision"), key, strict=True)))
            out[f"{device}_s"] = f"{IMAGES * each[key]:.3g}"
            if forward := each.get((row["model"], "forward", "float32")):
                out[f"{device}_forwards"] = f"{each[key] / forward:.2f}"
            out[f"{device}_memory_bound"] = f"{row['bound'] / row['seconds']:.2f}" if row["seconds"] else ""
    return [found[key] for key in sorted(found)]


def write(path: Path, columns: Sequence[str], table: Sequence[dict[str, Any]]) -> None:
    """A table as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def main() -> int:
    """Prints the table and what is amiss; writes the table where it is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", default="v5e", choices=DEVICES)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found, wrong = rows(asked.folder, asked.target)
    table = [shown(row) for row in sorted(found, key=lambda r: (r["model"], r["step"], r["precision"]))]
    for row in [dict(zip(COLUMNS, COLUMNS, strict=True)), *table]:
        print("  ".join(str(row.get(name, "")).ljust(max(9, len(name))) for name in COLUMNS))
    if asked.out:
        write(asked.out / f"{asked.target}.csv", COLUMNS, table)
        about = [f"{device}_{what}" for device in ROOFLINE for what in ("s", "forwards", "memory_bound")]
        write(asked.out / "roofline.csv", ("model", "step", "precision", *about), roofline(asked.folder, asked.target))
    for line in wrong:
        print(f"amiss: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
