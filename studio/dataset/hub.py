"""Files of the hub: which ones a repository has, fetched so that a cut or a stop loses nothing and a damaged file never counts as whole.

huggingface_hub is not used: it is switched off in this process on purpose, and it begins a file anew after a stop.
"""

import errno
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from studio import __version__
from studio.errors import InputError, NotFound, OutOfSpace, StudioError

TIMEOUT = 15.0
"""Seconds without a byte after which a connection counts as cut."""
TRIES, PAUSE = 5, 0.5
"""A connection that was cut this often without a new byte is given up; the pause in seconds doubles from one to the next."""
CHUNK = 2**18
LOST = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
"""What a connection that cannot be made, or breaks, raises."""
KEPT = "What was fetched is kept: fetch again to go on from there."
Tell = Callable[[int], bool]
"""Is told the bytes of a file that are there; answers whether to go on."""


class Cancelled(Exception):
    """The person asked to stop."""


@dataclass(frozen=True)
class Remote:
    """One file: its name, address, size in bytes (None when the server does not say), and what its content must hash to."""

    name: str
    address: str
    size: int | None = None
    sha256: str = ""
    blob: str = ""
    """Git's hash of a small file: SHA-1 over its length and content."""


def endpoint() -> str:
    """Address of the hub; HF_ENDPOINT names a mirror, as for every tool that speaks to the hub. Raises InputError."""
    address = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if not address.startswith(("https://", "http://")):
        raise InputError(f"HF_ENDPOINT is {address!r}, which is no address.", "It begins with https://; take it out of the environment for the hub itself.")
    return address


def _asked(address: str, headers: dict[str, str] | None = None) -> Any:
    """An open answer; raises what urllib raises. No token is ever sent."""
    request = urllib.request.Request(address, headers={"User-Agent": f"sd-training-studio/{__version__}", "Accept-Encoding": "identity", **(headers or {})})
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def files_of(repository: str, patterns: tuple[str, ...]) -> list[Remote]:
    """Files of a repository that match, with the .bin weights where it has no .safetensors; raises NotFound, StudioError."""
    host = endpoint()
    answer = _tried(f"{host}/api/models/{repository}/revision/main?blobs=true", host)
    try:
        found = json.loads(answer)
        commit = found["sha"]
        names = {entry["rfilename"]: entry for entry in found["siblings"] if "/" not in entry["rfilename"] and "\\" not in entry["rfilename"] and not entry["rfilename"].startswith(".")}
        wanted = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if not any(name.endswith(".safetensors") for name in wanted):
            wanted += [name for name in names if fnmatchcase(name, "pytorch_model*.bin") or fnmatchcase(name, "open_clip_pytorch_model.bin")]
        files = [_remote(host, repository, commit, names[name]) for name in dict.fromkeys(wanted)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudioError(f"The answer of {host} about {repository} is not understood.", "Check that HF_ENDPOINT names the hub or a mirror of it.") from error
    lacking = [pattern for pattern in patterns if "*" not in pattern and not pattern.endswith(".safetensors") and pattern not in wanted]
    if lacking or not any(name.endswith((".safetensors", ".bin")) for name in wanted):
        raise NotFound(f"{repository} has no {lacking[0] if lacking else 'weights'} any more.", "Choose another captioner.")
    return files


def _remote(host: str, repository: str, commit: str, entry: dict[str, Any]) -> Remote:
    """One file of a listing, pinned to the commit."""
    address = f"{host}/{repository}/resolve/{commit}/{urllib.parse.quote(entry['rfilename'])}"
    large = entry.get("lfs") or {}
    return Remote(entry["rfilename"], address, large.get("size", entry.get("size")), large.get("sha256", ""), "" if large else entry.get("blobId", ""))


def _tried(address: str, host: str) -> bytes:
    """A small answer, asked for again when the connection breaks; raises NotFound, StudioError."""
    for turn in range(TRIES):
        try:
            with _asked(address) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise _refused(error, address) from error
        except LOST as error:
            if turn == TRIES - 1 or isinstance(getattr(error, "reason", None), OSError):
                raise _unreachable(host, error) from error
            time.sleep(PAUSE * 2**turn)
    raise AssertionError("the loop returns or raises")


def fetch(remote: Remote, folder: Path, tell: Tell) -> None:
    """Bring one file into a folder, going on from what is there; raises Cancelled, NotFound, OutOfSpace, StudioError."""
    whole, part = folder / remote.name, folder / f"{remote.name}.part"
    if whole.is_file() and _is_right(whole, remote):
        tell(whole.stat().st_size)
        return
    failures, before = 0, _length(part)
    while (cut := _attempt(remote, part, tell)) is not None:
        failures = 0 if _length(part) > before else failures + 1
        before = _length(part)
        if failures >= TRIES and isinstance(cut, urllib.error.HTTPError):
            raise _refused(cut, remote.address) from cut
        if failures >= TRIES:
            raise _unreachable(urllib.parse.urlsplit(remote.address).netloc, cut) from cut
        _wait(PAUSE * 2**failures, tell, part)
    if not _is_right(part, remote):
        part.unlink(missing_ok=True)
        raise StudioError(f"{remote.name} arrived damaged and was thrown away.", "Fetch again; if it happens again, a proxy on the way changes files.")
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(whole)


def _attempt(remote: Remote, part: Path, tell: Tell) -> Exception | None:
    """One connection; what broke it, or None when the file is complete. Raises what another connection would not mend."""
    try:
        if (remote.size is not None and _length(part) >= remote.size > 0) or _receive(remote, part, _length(part), tell):
            return None
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what is there is longer than the file
            part.unlink(missing_ok=True)
        elif error.code < 500 and error.code not in (408, 429):
            raise _refused(error, remote.address) from error
        return error
    except LOST as error:
        return error
    except OSError as error:
        raise _no_space(remote.name, error) from error
    return ConnectionError("the answer ended early")


def _length(part: Path) -> int:
    """Bytes of a file that are there."""
    return part.stat().st_size if part.is_file() else 0


def _wait(seconds: float, tell: Tell, part: Path) -> None:
    """Pause before another try; raises Cancelled."""
    end = time.monotonic() + seconds
    while (rest := end - time.monotonic()) > 0:
        if not tell(_length(part)):
            raise Cancelled
        time.sleep(min(0.1, rest))


def _receive(remote: Remote, part: Path, before: int, tell: Tell) -> bool:
    """Append what the server sends; whether the file is complete then. A server that does not go on from the middle is taken from the start."""
    mark = part.with_name(f"{part.name}.mark")
    headers = {"Range": f"bytes={before}-"} if before else {}
    if before and mark.is_file():
        headers["If-Range"] = mark.read_text(encoding="ascii", errors="ignore")
    with _asked(remote.address, headers) as answer:
        going_on = answer.status == 206
        length = answer.headers.get("Content-Length")
        there = before if going_on else 0
        total = remote.size if remote.size is not None else there + int(length) if length else None
        if (tag := answer.headers.get("ETag")) and tag.isascii() and not tag.startswith("W/"):
            mark.write_text(tag, encoding="ascii")
        with part.open("ab" if going_on else "wb") as file:
            while chunk := answer.read1(CHUNK):
                file.write(chunk)
                there += len(chunk)
                if not tell(there):
                    raise Cancelled
    return there == total if total is not None else True


def _is_right(file: Path, remote: Remote) -> bool:
    """Whether a file is what the hub says it is; without a hash, a torch file's own check sums are asked."""
    size = file.stat().st_size
    if remote.size is not None and size != remote.size:
        return False
    if remote.sha256 or remote.blob:
        digest = hashlib.sha256() if remote.sha256 else hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        with file.open("rb") as data:
            while chunk := data.read(2**20):
                digest.update(chunk)
        return digest.hexdigest() == (remote.sha256 or remote.blob)
    if not zipfile.is_zipfile(file):
        with file.open("rb") as data:
            return data.read(1) == b"\x80"  # a pickle, as torch wrote files once; a page that says sorry is none
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


def _refused(error: urllib.error.HTTPError, address: str) -> StudioError:
    """What a server that says no means."""
    host = urllib.parse.urlsplit(address).netloc
    if error.code in (404, 410):
        return NotFound(f"{host} has no {urllib.parse.urlsplit(address).path} any more.", "Choose another captioner, or get its files elsewhere.")
    if error.code in (401, 403, 451):
        return StudioError(f"{host} does not give this away freely (it answered {error.code}).", "Get it in a browser and put its files into models/.")
    return StudioError(f"{host} answered {error.code} ({error.reason}).", f"Try again later. {KEPT}")


def _unreachable(host: str, error: Exception) -> StudioError:
    """There is no network, or it broke."""
    reason = str(getattr(error, "reason", "") or error or type(error).__name__)
    host = urllib.parse.urlsplit(host).netloc or host
    return StudioError(f"{host} cannot be reached ({reason[:120]}).", f"Check the network, or set HF_ENDPOINT to a mirror of the hub. {KEPT}", code="unreachable")


def _no_space(name: str, error: OSError) -> StudioError:
    """The disk refused."""
    if error.errno == errno.ENOSPC:
        return OutOfSpace(f"The disk is full: {name} was not fetched to its end.", f"Free some space. {KEPT}")
    return StudioError(f"{name} cannot be written ({error.strerror or error}).", "Check that models/ can be written to.")
