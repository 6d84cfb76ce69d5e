"""ICC profiles made by hand, and the colors that they mean, as sRGB in closed form."""

from __future__ import annotations

import struct

import numpy as np

# Red, green and blue of sRGB and Adobe RGB (1998) as columns of XYZ relative to D50 (brucelindbloom.com).
SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
ADOBE = np.array(
    [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197], [0.0194811, 0.0608902, 0.7448387]]
)
D50 = (0.9642, 1.0, 0.8249)
SRGB_CURVE = (3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # parametric, type 3


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))


def xyz_tag(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(x, y, z)


def curve_tag(curve: float | tuple[float, ...] | np.ndarray) -> bytes:
    """A gamma (to 1/256), the type and values of a parametric curve, or a table of values in [0, 1]."""
    if isinstance(curve, tuple):
        return b"para\0\0\0\0" + struct.pack(">HH", curve[0], 0) + fixed(*curve[1:])
    values = [round(curve * 256)] if isinstance(curve, float) else [round(v * 65535) for v in curve]
    return b"curv\0\0\0\0" + struct.pack(f">I{len(values)}H", len(values), *values)


def profile_of(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2.4 or, as it has parametric curves, 4.3."""
    tags = {b"wtpt": xyz_tag(*D50)} | tags
    rows, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        rows += struct.pack(">4sII", name, start + len(body), len(data))
        body += data
    version = 0x04300000 if any(t[:4] == b"para" for t in tags.values()) else 0x02400000
    head = struct.pack(">I4xI4s4s4s", start + len(body), version, kind, space, connection)
    head += struct.pack(">6H4s28x", 2000, 1, 1, 0, 0, 0, b"acsp") + fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + rows + body


def rgb_profile(
    columns: np.ndarray, curve: float | tuple[float, ...] | np.ndarray, tags: dict[bytes, bytes] | None = None
) -> bytes:
    names = (b"r", b"g", b"b")
    colors = {name + b"XYZ": xyz_tag(*columns[:, k]) for k, name in enumerate(names)}
    curves = {name + b"TRC": curve_tag(curve) for name in names}
    return profile_of(b"RGB ", b"XYZ ", b"mntr", colors | curves | (tags or {}))


def gray_profile(curve: float | tuple[float, ...] | np.ndarray) -> bytes:
    return profile_of(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": curve_tag(curve)})


def cmyk_profile(lab_of_corner: np.ndarray) -> bytes:
    """A press whose 16 full prints look as `[2, 2, 2, 2, 3]` Lab says, indexed by C, M, Y, K."""
    identity = bytes(range(256))
    grid = np.clip(np.round(lab_of_corner * [2.55, 1, 1] + [0, 128, 128]), 0, 255).astype(np.uint8)
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return profile_of(
        b"CMYK", b"Lab ", b"prtr", {b"A2B0": table + 4 * identity + grid.tobytes() + 3 * identity}
    )


def srgb_of_light(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_of_adobe(values: np.ndarray) -> np.ndarray:
    """Adobe RGB `[..., 3]` in [0, 1] as sRGB, in closed form."""
    return srgb_of_light(values ** (563 / 256) @ (np.linalg.inv(SRGB) @ ADOBE).T)


def srgb_of_lab(lab: np.ndarray) -> np.ndarray:
    f = np.array(
        [(lab[0] + 16) / 116 + lab[1] / 500, (lab[0] + 16) / 116, (lab[0] + 16) / 116 - lab[2] / 200]
    )
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    return srgb_of_light(np.linalg.inv(SRGB) @ xyz)
