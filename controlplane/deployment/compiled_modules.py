"""Makes compiled modules smaller: their symbols for debuggers are a seventh of the package on Lambda."""

import struct
from pathlib import Path

# The header of a 64-bit file and the table of its segments: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
_MAGIC = b"\x7fELF\x02\x01"
_SEGMENTS_AT, _SECTIONS_AT = 32, 40
_SEGMENT_SIZES, _SECTION_COUNT = 54, 60
# Within a segment's entry, where it begins in the file, and how long it is there.
_OFFSET, _LENGTH = 8, 32


def symbols_remove(module: Path) -> None:
    """Cut off what follows the segments of a module, and its table of sections, which names what is there.

    A program loads segments and links by a table within them; sections are for linkers and debuggers. `strip` does this
    for the machine's own processor only. Raises ValueError for what is no little-endian 64-bit ELF file.
    """
    data = bytearray(module.read_bytes())
    if not data.startswith(_MAGIC):
        raise ValueError(f"{module.name} is not a 64-bit ELF file")
    (start,) = struct.unpack_from("<Q", data, _SEGMENTS_AT)
    size, count = struct.unpack_from("<HH", data, _SEGMENT_SIZES)
    end = start + size * count
    for entry in range(start, end, size):
        (offset,) = struct.unpack_from("<Q", data, entry + _OFFSET)
        (length,) = struct.unpack_from("<Q", data, entry + _LENGTH)
        end = max(end, offset + length)
    struct.pack_into("<Q", data, _SECTIONS_AT, 0)
    struct.pack_into("<HH", data, _SECTION_COUNT, 0, 0)
    module.write_bytes(data[:end])
