"""Files that are no text, or other text than feedback, by their first bytes: each is refused by its name."""

from __future__ import annotations

from feedback.faults import DataError

UNPACK = "Unpack it, or pack it with gzip."
SIGNATURES: tuple[tuple[bytes, str, str, str], ...] = (
    (b"\xff\xfe\0\0", "UTF-32", "UTF-8", "Save the file as UTF-8."),
    (b"\0\0\xfe\xff", "UTF-32", "UTF-8", "Save the file as UTF-8."),
    (b"\xff\xfe", "UTF-16", "UTF-8", "Save the file as UTF-8."),
    (b"\xfe\xff", "UTF-16", "UTF-8", "Save the file as UTF-8."),
    (
        b"PK\x03\x04",
        "a spreadsheet's workbook or another zip archive",
        "text",
        "Save its sheet as CSV in UTF-8, or unpack the archive.",
    ),
    (b"\xd0\xcf\x11\xe0", "a workbook of old spreadsheets", "text", "Save its sheet as CSV in UTF-8."),
    (b"BZh", "a file packed with bzip2", "text", UNPACK),
    (b"\xfd7zXZ", "a file packed with xz", "text", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a file packed with zstandard", "text", UNPACK),
    (b"7z\xbc\xaf", "a 7-Zip archive", "text", UNPACK),
    (b"SQLite format 3", "a database of SQLite", "text", "Write its rows as CSV or JSON lines."),
    (
        b"\xff\xff\xff\xff",
        "an Arrow file",
        "text or Parquet",
        "Name the folder that save_to_disk wrote, or write Parquet.",
    ),
    (b"ARROW1", "an Arrow file", "text or Parquet", "Write it as Parquet, or with save_to_disk."),
    (b"\x80\x04\x95", "a pickle, which may run code when it is read", "text", "Write it as JSON lines."),
    (b"\x80\x05\x95", "a pickle, which may run code when it is read", "text", "Write it as JSON lines."),
    (b"version https://git-lfs", "a pointer of Git LFS", "the file itself", "Fetch it with git lfs pull."),
    (b"<!doctype html", "a web page", "the file itself", "Download the file, not the page that shows it."),
    (b"<html", "a web page", "the file itself", "Download the file, not the page that shows it."),
)
"""How a file begins, in lower case where letters may be either; what it is; what is wanted; and the remedy."""
LONGEST = max(len(start) for start, *_ in SIGNATURES)


def check_signature(path: str, start: bytes) -> None:
    """Raises `DataError` for a file that begins as none that is read."""
    for signature, got, expected, remedy in SIGNATURES:
        if start.startswith(signature) or start.lower().startswith(signature):
            is_encoding = got.startswith("UTF")
            field = "encoding" if is_encoding else "file"
            raise DataError(path, 1 if is_encoding else None, field, got, expected, remedy)
    if b"\0" in start[:4] and start[:4] != b"PAR1":
        got = "zero bytes, as UTF-16 without its mark has them"
        raise DataError(path, 1, "encoding", got, "UTF-8", "Save the file as UTF-8.")
