"""Damaged safetensors: one line that names the file and what is wrong, whatever was damaged; nothing is guessed."""

import json
import struct

import numpy as np
import pytest

from tests.golden import torch_seeded
from tf_vitcnn import load
from tf_vitcnn.errors import BadInput

FILE = "model.safetensors"
GONE = "blocks.1.mlp.fc1.weight"
NAMED = {"a tensor missing": GONE, "a tensor too many": "surprise", "a tensor renamed": "other"}


def parts(data):
    """The header and the bytes after it."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def whole(header, payload, length=None):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + payload


def tensors(header):
    return [name for name in header if name != "__metadata__"]


def overlapping(header, payload):
    one, two = tensors(header)[:2]
    header[two]["data_offsets"] = [
        header[one]["data_offsets"][0],
        header[one]["data_offsets"][0] + int(np.diff(header[two]["data_offsets"])[0]),
    ]
    return whole(header, payload)


def outside(header, payload):
    name = tensors(header)[-1]
    header[name]["data_offsets"][1] += 2**40
    return whole(header, payload)


def of_type(kind):
    def change(header, payload):
        header[tensors(header)[0]]["dtype"] = kind
        return whole(header, payload)

    return change


def reshaped(header, payload):
    name = next(name for name in tensors(header) if len(header[name]["shape"]) == 1)
    header[name]["shape"] = [header[name]["shape"][0] // 2, 2]
    return whole(header, payload)


def missing(header, payload):
    """A tensor less, the offsets of the others closed up."""
    start, stop = header.pop(GONE)["data_offsets"]
    for other in tensors(header):
        offsets = header[other]["data_offsets"]
        header[other]["data_offsets"] = [at - (stop - start) * (at >= stop) for at in offsets]
    return whole(header, payload[:start] + payload[stop:])


def surplus(header, payload):
    header["surprise"] = {"dtype": "F32", "shape": [2], "data_offsets": [len(payload), len(payload) + 8]}
    return whole(header, payload + bytes(8))


def renamed(header, payload):
    name = tensors(header)[0]
    return whole({("other" if key == name else key): value for key, value in header.items()}, payload)


DAMAGES = {
    "empty": lambda header, payload: b"",
    "half a header": lambda header, payload: whole(header, payload)[:200],
    "truncated": lambda header, payload: whole(header, payload)[:-9],
    "longer": lambda header, payload: whole(header, payload) + b"tail",
    "header length 0": lambda header, payload: whole(header, payload, 0),
    "header length too short": lambda header, payload: whole(header, payload, 100),
    "header length past the end": lambda header, payload: whole(header, payload, 2**31),
    "header length enormous": lambda header, payload: whole(header, payload, 2**64 - 1),
    "header no JSON": lambda header, payload: struct.pack("<Q", 8) + b"\xff" * 8 + payload,
    "header a list": lambda header, payload: whole(list(header), payload),
    "overlapping offsets": overlapping,
    "offsets outside": outside,
    "negative offsets": lambda header, payload: whole(
        {**header, tensors(header)[0]: {**header[tensors(header)[0]], "data_offsets": [-8, 0]}}, payload
    ),
    "a type of another size": of_type("F64"),
    "an unknown type": of_type("Q9"),
    "integers of that size": of_type("I32"),
    "another shape": reshaped,
    "a tensor missing": missing,
    "a tensor too many": surplus,
    "a tensor renamed": renamed,
}


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A seeded network's file."""
    folder = torch_seeded.folder(tmp_path_factory.mktemp("honest") / "net", torch_seeded.case("timm_augreg"))
    return folder, (folder / FILE).read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_line(damage, honest):
    folder, data = honest
    (folder / FILE).write_bytes(DAMAGES[damage](*parts(data)))
    with pytest.raises(BadInput) as caught:
        load(f"timm@{folder}")
    said = str(caught.value)
    assert "\n" not in said and len(said) < 600
    assert folder.name in said
    assert NAMED.get(damage, "") in said
    (folder / FILE).write_bytes(data)


def test_the_honest_file_loads(honest):
    folder, data = honest
    (folder / FILE).write_bytes(whole(*parts(data)))
    assert load(f"timm@{folder}").taps
