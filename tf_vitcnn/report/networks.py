"""The networks of a report: in which order they stand, which random one goes with which trained one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tf_vitcnn.charts import theme
from tf_vitcnn.verdicts.cause import same_architecture
from tf_vitcnn.verdicts.evidence import Result
from tf_vitcnn.verdicts.structure import family

# As the paper's panels stand: ViT, ResNet, Mixer
FAMILIES = {"vit": "ViT", "resnet": "ResNet", "mixer": "Mixer"}
_ORDER = list(FAMILIES.values())
_POOLS = ("cls", None, "gap")


@dataclass(frozen=True)
class Network:
    """One model that tables speak of; `twin`: the trained one of the same architecture, for a random one."""

    name: str
    record: Mapping[str, Any]
    twin: str | None = None

    @property
    def random(self) -> bool:
        """Whether its weights are random."""
        return bool(self.record.get("random"))

    @property
    def family(self) -> str:
        """`ViT`, `ResNet`, `Mixer`, or what the record says."""
        said = family(self.record)
        return FAMILIES.get(said, said)


def networks(results: Iterable[Result]) -> list[Network]:
    """Every model of the tables, trained ones first, in the paper's order of kinds."""
    records = {s["name"]: s for result in results for s in result.sidecar["subjects"]}
    ordered = sorted((Network(name, record) for name, record in records.items()), key=_rank)
    trained = [network for network in ordered if not network.random]
    return trained + [Network(n.name, n.record, _twin(n, trained)) for n in ordered if n.random]


def looks(found: Iterable[Network]) -> Any:
    """Within it each network keeps its look in every chart."""
    found = list(found)
    return theme.models(
        [n.name for n in found], {n.name: n.twin for n in found if n.twin}, {n.name: n.family for n in found}
    )


def _rank(network: Network) -> tuple:
    record = network.record
    kind = _ORDER.index(network.family) if network.family in _ORDER else len(_ORDER)
    pool = _POOLS.index(record.get("pool")) if record.get("pool") in _POOLS else len(_POOLS)
    special = bool(record.get("no_skip")) + 2 * bool(record.get("finetuned_from"))
    return kind, special, pool, -float(record.get("training_images") or 0), network.name


def _twin(random: Network, trained: Iterable[Network]) -> str | None:
    return next((n.name for n in trained if same_architecture(n.record, random.record)), None)
