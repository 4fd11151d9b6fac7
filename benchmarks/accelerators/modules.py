"""A lowered module as text: what it may not hold, and how a younger reader takes it."""

from __future__ import annotations

import math
import re

LARGEST = 100e6  # bytes of a module
HOST = ("infeed", "outfeed", "send", "recv")
WIDE = re.compile(r"dot_general|stablehlo\.convolution|stablehlo\.dot ")


def amiss(module: str, precision: str) -> list[str]:
    """What a lowered module may not hold."""
    found = ["float64"] if re.search(r"[x<]f64>", module) else []
    found += ["a dynamic dimension"] if re.search(r"tensor<(\d+x)*\?", module) else []
    found += [f"custom call {name}" for name in sorted(set(re.findall(r"custom_call @(\w+)", module)))]
    found += [f"{word} to the host" for word in HOST if f'stablehlo.{word}"' in module]
    products = [line for line in module.splitlines() if WIDE.search(line) and "f32>" in line]
    low = [line for line in products if "HIGHEST" not in line and "bf16" not in line.partition("->")[0]]
    if low and precision == "float32":
        found.append(f"{len(low)} of {len(products)} products below HIGHEST")
    if len(module) > LARGEST:
        found.append(f"a module of {len(module) / 1e6:.0f} MB")
    return found


def exact(module: str) -> bool:
    """Whether a module multiplies float32, which takes several passes where bfloat16 takes one."""
    products = filter(WIDE.search, module.splitlines())
    return any("xf32>" in line.rpartition(" : ")[2].partition("->")[0] for line in products)


def readable(module: str) -> str:
    """The module with its constants of i1 as bytes: TensorFlow's writer packs their bits, jax's reader does not."""

    def widened(found: re.Match[str]) -> str:
        count = math.prod(map(int, found[2].split("x")[:-1]))
        bits = int.from_bytes(bytes.fromhex(found[1]), "little")
        each = "".join(f"{bits >> place & 1:02d}" for place in range(count))
        return f'dense<"0x{each}"> : tensor<{found[2]}>'

    return re.sub(r'dense<"0x([0-9A-Fa-f]+)"> : tensor<((?:\d+x)+i1)>', widened, module)


def unnamed(module: str) -> str:
    """The module without numbers and places of its trace: equal programs are then equal texts, and one is compiled."""
    module = re.sub(r"^#loc.*\n", "", module, flags=re.MULTILINE)
    module = re.sub(r' loc\((?:[^()"]|"[^"]*"|\([^()]*\))*\)', "", module)
    names = dict.fromkeys(re.findall(r"^(?:module|\s*func\.func(?: \w+)?) (@[\w.]+)", module, flags=re.MULTILINE))
    short = {name: "@main" if name == "@main" else f"@part{i}" for i, name in enumerate(names)}
    return re.sub(r"@[\w.]+", lambda found: short.get(found[0], found[0]), module)
