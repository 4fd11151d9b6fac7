"""gs:// as a folder of this machine: what stands for a bucket in tests. Import it before paths are made.

As in a store, an object is there when it was written to its end, folders need no making, and a new name is a copy.
"""

import io
import os
import pathlib

from etils import epath

ROOT = "TF_VITCNN_TEST_BUCKETS"  # an environment variable: where the folder is
SCHEME = "gs://"


@epath.register_path_cls(SCHEME)
class Bucket(pathlib.PurePosixPath):
    """A path of a store, with as much of pathlib as is asked of one."""

    def __new__(cls, *parts):
        """Whatever its parts say, one path below the scheme."""
        return super().__new__(cls, *(str(part).replace(SCHEME, "gs:/", 1) for part in parts))

    def __str__(self):
        return super().__str__().replace("gs:/", SCHEME, 1)

    def __fspath__(self):
        return str(self)

    @property
    def _file(self):
        return pathlib.Path(os.environ[ROOT], *self.parts[1:])

    def exists(self):
        return self._file.exists()

    def is_dir(self):
        return self._file.is_dir()

    def is_file(self):
        return self._file.is_file()

    def iterdir(self):
        return (self / path.name for path in self._file.iterdir())

    def glob(self, pattern):
        return (self / path.relative_to(self._file) for path in self._file.glob(pattern))

    def mkdir(self, mode=0o777, parents=False, exist_ok=False):
        """Nothing: a store has names, not folders."""

    def expanduser(self):
        return self

    def read_bytes(self):
        return self._file.read_bytes()

    def read_text(self, encoding=None):
        return self._file.read_text(encoding)

    def write_bytes(self, data):
        half = self._file.with_name(self._file.name + f"~{os.getpid()}")
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(data)
        half.replace(self._file)

    def write_text(self, text, encoding="utf-8"):
        self.write_bytes(text.encode(encoding))

    def open(self, mode="r", **how):
        if "r" in mode:
            return self._file.open(mode, **how)
        return _Upload(self) if "b" in mode else io.TextIOWrapper(_Upload(self), **how)

    def replace(self, target):
        epath.Path(target).write_bytes(self.read_bytes())
        self.unlink()
        return target

    rename = replace

    def unlink(self, missing_ok=False):
        self._file.unlink(missing_ok)


class _Upload(io.BytesIO):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def close(self):
        if not self.closed:
            self.path.write_bytes(self.getvalue())
        super().close()
