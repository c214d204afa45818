"""What the bytes of a container or packet tell that FFmpeg does not."""

from __future__ import annotations


def matroska_size(head: bytes) -> int:
    """Bytes of a Matroska or WebM file by its header, 0 where it does not say: FFmpeg reads a cut one."""
    at = 0
    # Each element is an identifier of 4 bytes, a size whose leading zeros tell its length, and its content.
    for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        field = head[at + 4 : at + 12]
        if head[at : at + 4] != identifier or not field or not field[0]:
            return 0
        length = 9 - field[0].bit_length()
        size = int.from_bytes(field[:length], "big") - (1 << 7 * length)
        at += 4 + length + size
    # All ones: not known when it was written.
    return 0 if size == (1 << 7 * length) - 1 else at


def has_long_units(extradata: bytes) -> bool:
    """Whether packets of an H.264 stream are units with lengths of 4 bytes before them, as in MP4 and Matroska."""
    return len(extradata) > 4 and extradata[0] == 1 and extradata[4] & 3 == 3


def is_spare_h264(packet: bytes) -> bool:
    """Whether a packet of such units is a frame that no other frame is decoded from (nal_ref_idc is 0)."""
    at, spare = 0, False
    while at + 4 < len(packet):
        kind, used = packet[at + 4] & 0x1F, packet[at + 4] & 0x60
        if 1 <= kind <= 5:
            if used:
                return False
            spare = True
        at += 4 + int.from_bytes(packet[at : at + 4], "big")
    return spare
