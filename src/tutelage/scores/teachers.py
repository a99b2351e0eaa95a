"""Whose scores lie in a cache: fingerprints of weights, and what is known of teachers whose weights have gone."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tutelage.errors import TeacherError
from tutelage.scores.shards import write_durably

_FOLDER = "teachers"
_WEIGHTS = ("*.safetensors", "*.bin")
"""Files that hold weights; the first kind that a folder has is the one that is loaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherRecord:
    """What decides a teacher's scores, apart from what it reads."""

    model: str
    """Folder, as an absolute path, or hub id."""
    revision: str | None = None
    """Of a hub id."""
    dtype: str = "stored"
    """Type that the weights are turned to, and that of the forward where it is another."""
    config: str = ""
    """Digest of config.json."""
    weights: Mapping[str, str]
    """Digest of each file of weights by its name; empty where they do not lie on this machine."""
    answers: Mapping[str, list[int] | list[float]] = field(default_factory=dict[str, list[int] | list[float]])
    """What a served teacher, whose weights nobody here can read, said about some tokens."""

    @property
    def fingerprint(self) -> str:
        """Short name of exactly these weights under this arithmetic, wherever they lie."""
        decides = [self.revision, self.dtype, self.config, sorted(self.weights.values())]
        return hashlib.blake2b(json.dumps(decides).encode(), digest_size=16).hexdigest()


def describe_teacher(model: str, *, revision: str | None, dtype: str) -> TeacherRecord:
    """Read every byte of a model's weights, where they lie on this machine.

    Args:
        model: Folder or hub id; of a hub id what was downloaded before.
        revision: Of a hub id.
        dtype: See `TeacherRecord`.
    """
    folder = Path(model).expanduser()
    is_local = folder.is_dir()
    if not is_local:
        folder = _downloaded(model, revision)
    files = next((found for pattern in _WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    config = folder / "config.json"
    return TeacherRecord(
        model=str(folder.resolve()) if is_local else model,
        revision=revision,
        dtype=dtype,
        config=_digest(config) if config.is_file() else "",
        weights={path.name: _digest(path) for path in files},
    )


def keep_teacher(folder: Path, record: TeacherRecord) -> None:
    """Write down whose scores a cache holds, so that they can be used where the weights are not.

    Raises:
        OSError: The folder cannot be written.
    """
    path = folder / _FOLDER / f"{record.fingerprint}.json"
    if not path.exists():
        write_durably(path, json.dumps(asdict(record), indent=1).encode())


def known_teachers(folder: Path) -> dict[str, TeacherRecord]:
    """Whose scores a cache holds, by fingerprint; what cannot be read is left out."""
    found = dict[str, TeacherRecord]()
    for path in sorted((folder / _FOLDER).glob("*.json")):
        try:
            record = TeacherRecord(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        found[path.stem] = record
    return found


def recorded_fingerprint(folder: Path, record: TeacherRecord) -> str:
    """The fingerprint of a teacher whose weights do not lie here, from what was written down when they did.

    Raises:
        TeacherError: The cache knows no such teacher, or several that differ in their weights only.
    """
    if record.weights:
        return record.fingerprint
    candidates = [name for name, known in known_teachers(folder).items() if _same_but_weights(known, record)]
    if len(candidates) == 1:
        return candidates[0]
    remedy = "Run tutelage cache precompute with this run's settings where the weights are."
    if not candidates:
        raise TeacherError(f"The score cache {str(folder)!r} holds no scores of {record.model!r}. {remedy}")
    raise TeacherError(
        f"The score cache {str(folder)!r} holds scores of {len(candidates)} different weights that lay in {record.model!r} at "
        f"different times ({_listed(candidates)}), and without the weights nobody can say which are meant. Put the weights "
        f"back, or use a new folder. {remedy}"
    )


def _same_but_weights(known: TeacherRecord, record: TeacherRecord) -> bool:
    return (known.model, known.revision, known.dtype, known.config) == (
        record.model,
        record.revision,
        record.dtype,
        record.config,
    )


def _downloaded(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError):
        return Path(model)  # a folder without files


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name[:8] for name in names)
