"""Hashes of large files, computed once and remembered by size and time of change."""

import json
import os
from pathlib import Path

from studio.files import atomic_write, sha256


def remembered_sha256(path: Path, book: Path | None = None) -> str:
    """SHA-256 of a file's bytes; with a `book` (a small JSON file) it is read again only when the file's size or time has changed."""
    status = path.stat()
    key, stamp = os.path.abspath(path), [status.st_mtime_ns, status.st_size]
    known = _read(book)
    entry = known.get(key)
    if isinstance(entry, list) and entry[:2] == stamp and len(entry) == 3:
        return str(entry[2])
    digest = sha256(path)
    if book is not None:
        kept = {k: v for k, v in {**_read(book), key: [*stamp, digest]}.items() if os.path.exists(k)}
        with atomic_write(book) as temporary:
            temporary.write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")
    return digest


def known_hash(path: Path, book: Path) -> str | None:
    """The first ten digits of a file's SHA-256 if the book has it; the file is not read."""
    status = path.stat() if path.exists() else None
    entry = _read(book).get(os.path.abspath(path))
    return str(entry[2])[:10] if status and isinstance(entry, list) and entry[:2] == [status.st_mtime_ns, status.st_size] and len(entry) == 3 else None


def _read(book: Path | None) -> dict[str, list]:
    """What the book holds; a damaged one counts as empty, since everything in it can be computed again."""
    try:
        known = json.loads(book.read_text(encoding="utf-8")) if book is not None else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
