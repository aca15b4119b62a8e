"""ZIP and tar archives as sources: unpacked once, into the cache, under a hash of their bytes.

Nothing that an archive says leaves its folder: members with absolute names or `..` are refused,
links and devices are left out, and what is written is counted, not what the archive promises.
"""

import errno
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from headstart.data.file_names import is_archive
from headstart.data.locks import this_process
from headstart.data.tree import Tree
from headstart.errors import DataError, DiskFullError
from headstart.inputs.regular_files import open_regular
from headstart.text import listed

MAX_MEMBERS = 2_000_000
MAX_BYTES = 200 * 2**30
MAX_RATIO = 200
RATIO_COUNTS_FROM = 2**30
"""Bytes that any archive may hold; photographs shrink little, so more is a bomb or a mistake."""

_CHUNK = 2**20
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
    UnicodeDecodeError, ValueError,
)  # fmt: skip

_Kind = Literal["file", "folder", "link", "device"]


@dataclass(frozen=True)
class Unpacked:
    """Archives that lie in the cache.

    Attributes:
        folder: Folder with what they hold.
        left_out: Members that are links or devices.
    """

    folder: Path
    left_out: tuple[str, ...]


def archives_alone(folder: Path, around: Path | None = None) -> tuple[list[Path], list[Path]]:
    """Returns the archives in a folder without images, and the other files; else nothing.

    Links may lead below `around` as well, see `surroundings`.
    """
    tree = Tree(folder.resolve(), around=around)
    archives, others = list[Path](), list[Path]()
    for entry in tree.walk(tree.start):
        if entry.kind == "image":
            return [], []
        if entry.kind == "other":
            (archives if is_archive(entry.path) else others).append(entry.path)
    return sorted(archives), sorted(others) if archives else []


def unpack(archives: Sequence[Path], cache_dir: Path, beside: Sequence[Path] = ()) -> Unpacked:
    """Unpacks archives into the cache, or finds them there.

    The content of one archive lies in the folder; that of several in a folder for each, with its
    name, unless it is one file of that name, as in `train.csv.zip`. Teachable Machine calls the
    images of one class `CLASS-samples.zip`.

    Args:
        archives: The archives.
        cache_dir: Cache folder.
        beside: Tables that lie beside several archives.

    Raises:
        DataError: An archive is damaged, protected or too large, or a member would lie outside.
        DiskFullError: There is no space for the content.
    """
    tables = [path for path in beside if path.stat().st_size < _CHUNK * 256]
    names = Counter(stem(path) for path in archives) + Counter(path.name for path in tables)
    if twice := [name for name, count in names.items() if count > 1]:
        raise DataError(
            f"Several archives or files are called {twice[0]!r}. Unpack them and give the folder."
        )
    entry = cache_dir / "unpacked" / _key([*archives, *tables])
    try:
        if (found := _stored(entry)) is not None:
            return found
        entry.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".draft-{this_process()}-", dir=entry.parent))
        try:
            content = draft / "content"
            left_out: list[str] = []
            for path in archives:
                into = content if len(archives) == 1 and not beside else content / stem(path)
                left_out += _extract(path, into)
                _unwrap(into)
            for path in tables:
                shutil.copyfile(path, content / path.name)
            meta = {"left_out": left_out, "files": _count(content)}
            (draft / "index.json").write_text(json.dumps(meta), encoding="utf-8")
            if (found := _stored(entry)) is not None:  # another process was faster, and reads it
                return found
            shutil.rmtree(entry, ignore_errors=True)  # files were deleted from it
            try:
                draft.rename(entry)
            except OSError:
                if _stored(entry) is None:
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        shown = listed([path.name for path in archives])
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"No space to unpack {shown} in {entry.parent}. Free some space, or point "
                "HEADSTART_CACHE at a larger disk."
            ) from None
        raise DataError(
            f"{shown} cannot be unpacked in {entry.parent}: {error.strerror or error}. Set "
            "HEADSTART_CACHE to a folder that can be written to."
        ) from None
    return Unpacked(entry / "content", tuple(left_out))


def _key(paths: Sequence[Path]) -> str:
    """Returns a key of names and contents."""
    total = hashlib.sha256(b"2")
    for path in paths:
        try:
            with open_regular(path) as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from None
        several = path.name.encode(errors="surrogateescape") if len(paths) > 1 else b""
        total.update(content + hashlib.sha256(several).digest())
    return total.hexdigest()[:32]


def _stored(entry: Path) -> Unpacked | None:
    index = entry / "index.json"
    try:
        meta = json.loads(index.read_text(encoding="utf-8"))
        left_out = meta["left_out"]
        if _count(entry / "content") != meta["files"]:
            return None
        os.utime(index)  # the oldest are evicted first
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Unpacked(entry / "content", tuple(left_out))


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def stem(path: Path) -> str:
    """Returns the name of an archive without its endings.

    Example:
        >>> stem(Path("pets.tar.gz")), stem(Path("ants-samples.zip"))
        ('pets', 'ants')
    """
    name = re.sub(r"(\.tar)?\.\w+$", "", path.name)
    return re.sub(r"[-_ ]samples$", "", name) or path.name


def _extract(path: Path, folder: Path) -> list[str]:
    """Writes the files of an archive into a new folder; returns the names of links and devices."""
    folder.mkdir(parents=True)
    room = _room(path)
    left_out = []
    count = total = 0
    members = _zip_members(path) if _starts_as_zip(path) else _tar_members(path, folder)
    try:
        for name, kind, stream in members:
            target = folder / _safe(name, path)
            count += 1
            if count > MAX_MEMBERS:
                raise DataError(f"{path} has more than {MAX_MEMBERS:,} members.")
            if kind == "folder":
                target.mkdir(parents=True, exist_ok=True)
            elif stream is None:
                left_out.append(name.encode(errors="backslashreplace").decode())
            else:
                total += _write(stream, target, name, path, room - total)
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"{path} holds {name!r} twice. Unpack it and give the folder.") from None
    except (*_DAMAGED, OSError) as error:
        # What gzip and bzip2 say of damage is an OSError without a number.
        if isinstance(error, DataError) or getattr(error, "errno", None) is not None:
            raise
        raise DataError(_damage(path, error)) from None
    if not count:
        raise DataError(f"{path} is empty.")
    return left_out


def _unwrap(folder: Path) -> None:
    """Puts the only file of `train.csv.zip` in the place of the folder that has its name."""
    if [each.name for each in folder.iterdir()] == [folder.name]:
        inner = folder.rename(folder.with_name(f".{folder.name}"))
        (inner / folder.name).rename(folder)
        inner.rmdir()


def _starts_as_zip(path: Path) -> bool:
    with path.open("rb") as file:  # zipfile.is_zipfile finds a ZIP file at the end of others, too
        return file.read(2) == b"PK"


def _damage(path: Path, error: Exception) -> str:
    if isinstance(error, tarfile.ReadError) and "opened successfully" in str(error):
        return f"{path} is damaged, or neither a ZIP nor a tar file. Copy or download it again."
    if isinstance(error, NotImplementedError):
        return (
            f"{path} is packed in a way that Python does not read ({error}). Unpack it and give "
            "the folder."
        )
    cause = " ".join(str(error).split()).rstrip(".") or "it ends early"
    return f"{path} is damaged or cut off ({cause}). Copy or download it again."


def _write(stream: IO[bytes], target: Path, name: str, path: Path, room: int) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with target.open("xb") as file:
        while chunk := stream.read(_CHUNK):
            written += len(chunk)
            if written > room:
                raise DataError(_too_much(path, repr(name)))
            file.write(chunk)
    return written


def _room(path: Path) -> int:
    """Returns the bytes that an archive may unpack to."""
    return min(MAX_BYTES, max(RATIO_COUNTS_FROM, MAX_RATIO * path.stat().st_size))


def _too_much(path: Path, what: str) -> str:
    return (
        f"{path} unpacks to far more than archives of images do: {what} passes the limit of "
        f"{MAX_BYTES >> 30} GB, or of {MAX_RATIO} times its size. If that is right, unpack it and "
        "give the folder."
    )


def _safe(name: str, path: Path) -> PurePosixPath:
    """Returns the name of a member as a path inside a folder.

    Raises:
        DataError: It leads out of the folder.
    """
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise DataError(f"{path} holds {name!r}, which would lie outside its folder.")
    return PurePosixPath(*parts)


def _zip_members(path: Path) -> Iterator[tuple[str, _Kind, IO[bytes] | None]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _zip_name(info)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or name.endswith("/"):
                yield name, "folder", None
            elif kind not in (0, stat.S_IFREG):
                yield name, "link" if kind == stat.S_IFLNK else "device", None
            elif info.flag_bits & 1:
                raise DataError(
                    f"{path} is protected by a password. Unpack it and give the folder."
                )
            else:
                with archive.open(info) as stream:
                    yield name, "file", stream


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Returns a name as it was meant: many tools write UTF-8 without its mark, or backslashes."""
    name = info.filename
    if not info.flag_bits & 0x800:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    return name.replace("\\", "/")


def _tar_members(path: Path, folder: Path) -> Iterator[tuple[str, _Kind, IO[bytes] | None]]:
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if member.isdir():
                yield member.name, "folder", None
            elif member.isreg():
                _safe(member.name, path)
                if hasattr(tarfile, "data_filter"):  # from Python 3.11.4
                    tarfile.data_filter(member, str(folder))
                yield member.name, "file", archive.extractfile(member)
            else:
                yield member.name, "link" if member.issym() or member.islnk() else "device", None
        # A tar file ends in a block of zeros: tarfile takes a missing one for the end, too.
        if archive.fileobj is not None and archive.fileobj.tell() < archive.offset + 512:
            raise EOFError("Its end is missing.")
        # The checksum of a compressed file comes behind the last member.
        room = _room(path)
        while archive.fileobj is not None and (chunk := archive.fileobj.read(_CHUNK)):
            room -= len(chunk)
            if room < 0:
                raise DataError(_too_much(path, "what follows its members"))
