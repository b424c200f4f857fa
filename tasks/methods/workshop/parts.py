"""Define the twelve machine parts as solids over the plane: a signed distance and a height per point.

Lengths are in units of the part's radius. Each function draws one example's proportions from `rng` and returns its
solid, which fits about into the unit disc. In a picture of 64 pixels every stroke is about three pixels wide.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from tailforge.tasks.methods.workshop.fields import (
    Field,
    box,
    capsule,
    chamfer,
    corner,
    disc,
    fillet,
    fold,
    hexagon,
    step,
)

Solid: TypeAlias = Callable[[Field, Field], tuple[Field, Field]]
"""Maps x and y [H, W] to distance and height [H, W]. The distance is negative inside; the height counts there only."""


def gear(rng: np.random.Generator) -> Solid:
    """Return a toothed wheel with a bore and a raised hub."""
    teeth = int(rng.integers(8, 13))
    root, bore, hub = rng.uniform(0.70, 0.76), rng.uniform(0.22, 0.30), rng.uniform(0.14, 0.20)
    half_tooth = rng.uniform(0.50, 0.58) * np.pi * root / teeth

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        # One tooth in the first sector, its flanks sloped, repeated by `fold`.
        centre = disc(x, y, 0.0)
        along, across = fold(x, y, teeth)
        flank = (np.abs(across) - half_tooth + 0.16 * (along - root)) * 0.98
        tooth = np.maximum(flank, along - 0.99)

        # Teeth on a disc with a bore. The plate is sunk between rim and hub.
        hole = bore - centre
        body = np.maximum(np.minimum(centre - root, tooth), hole)
        recess = step(centre, root - 0.10, root - 0.18) * step(centre, bore + hub, bore + hub + 0.06)
        plate = chamfer(body, 0.07, 0.10) - 0.06 * recess
        collar = fillet(np.maximum(centre - bore - hub, hole), 0.10, 0.17)
        return body, np.maximum(plate, collar)

    return solid


def bolt(rng: np.random.Generator) -> Solid:
    """Return a bolt from the side: a faceted head and a shank with a thread up to a plain neck."""
    half_shank, half_head = rng.uniform(0.18, 0.22), rng.uniform(0.42, 0.48)
    head_from, neck_from = rng.uniform(0.56, 0.64), rng.uniform(0.20, 0.36)
    pitch = rng.uniform(0.18, 0.22)
    head_middle, head_half = (0.94 + head_from) / 2, (0.94 - head_from) / 2

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        # The thread fades outside the bar, so that a soft shadow shows none of it.
        across = np.abs(y)
        thread = np.abs((x / pitch) % 1.0 - 0.5) * 2.0
        ridge = np.where(x < neck_from, 0.09 * thread - 0.045, 0.0) * step(across - half_shank, 0.12, 0.045)
        tip = 0.8 * np.maximum(-0.82 - x, 0.0)
        shank = corner(across - half_shank - ridge + tip, np.abs(x + 0.05) - 0.90)

        # The head is a box with cut corners.
        cut = (x - 0.94 + across - half_head + 0.12) * 0.7
        head = np.maximum(box(x - head_middle, y, head_half, half_head), cut)

        # From the side a hexagon shows one face and two that turn away.
        facets = 0.30 - 0.55 * np.maximum(across - 0.5 * half_head, 0.0)
        crown = np.minimum(chamfer(head, 0.07, 0.30), facets)
        return np.minimum(shank, head), np.maximum(fillet(shank, half_shank, 0.20), crown)

    return solid


def washer(rng: np.random.Generator) -> Solid:
    """Return a flat ring with a wide opening."""
    bore = rng.uniform(0.52, 0.62)

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        body = np.abs(disc(x, y, (0.97 + bore) / 2)) - (0.97 - bore) / 2
        return body, fillet(body, 0.075, 0.075)

    return solid


def hex_nut(rng: np.random.Generator) -> Solid:
    """Return a hexagon with a threaded bore and corners turned off at the top."""
    bore = rng.uniform(0.40, 0.48)

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        centre = disc(x, y, 0.0)
        body = np.maximum(hexagon(x, y, 0.85), bore - centre)
        # Cones cut the height at the corners and at the bore.
        turned = 0.34 - 1.1 * np.maximum(centre - 0.74, 0.0)
        inner = (centre - bore) * 2.4
        return body, np.minimum(np.minimum(chamfer(body, 0.12, 0.34), turned), inner)

    return solid


def bracket(rng: np.random.Generator) -> Solid:
    """Return a flat angle of two arms with a screw hole at each end."""
    half_arm, reach = rng.uniform(0.21, 0.26), rng.uniform(0.80, 1.0)
    hole = half_arm * rng.uniform(0.46, 0.54)

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        # The arms meet at the origin after this shift.
        x, y = x + 0.50, y + 0.50
        end_x, end_y = 1.34, 1.34 * reach
        long_arm = box(x - (end_x - half_arm) / 2, y, (end_x + half_arm) / 2, half_arm)
        short_arm = box(x, y - (end_y - half_arm) / 2, half_arm, (end_y + half_arm) / 2)

        # One hole at the end of each arm.
        holes = np.minimum(disc(x - end_x + half_arm, y, hole), disc(x, y - end_y + half_arm, hole))
        plate = np.minimum(long_arm, short_arm)
        return np.maximum(plate, -holes), np.minimum(chamfer(plate, 0.08, 0.13), (holes + 0.02) * 1.6)

    return solid


def spring(rng: np.random.Generator) -> Solid:
    """Return four coils of a spring from the side: front turns of round wire over back turns."""
    coils, half_width = 4, rng.uniform(0.36, 0.46)
    length, wire = rng.uniform(1.66, 1.78), rng.uniform(0.076, 0.088)
    period = length / coils
    knee, turn = (0.15 * period, 0.80 * half_width), (0.25 * period, half_width)

    def strand(x: Field, y: Field, radius: float) -> Field:
        """Return the distance to half a turn about the origin, from upper left to lower right."""
        middle = capsule(x, y, (-knee[0], -knee[1]), knee, (radius, radius))
        upper = capsule(x, y, (-turn[0], -turn[1]), (-knee[0], -knee[1]), (radius, radius))
        return np.minimum(np.minimum(middle, upper), capsule(x, y, knee, turn, (radius, radius)))

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        # Move each point to its nearest front turn, and to its nearest back turn half a period on.
        first = 0.25 * period - 0.5 * length
        own = x - first - period * np.clip(np.round((x - first) / period), 0, coils - 1)
        front = strand(own, y, wire)
        behind = x - first - period * (np.clip(np.round((x - first) / period - 0.5), 0, coils - 1) + 0.5)
        back = strand(behind, -y, 0.9 * wire)
        return np.minimum(front, back), np.maximum(fillet(front, wire, 0.30), fillet(back, 0.9 * wire, 0.12))

    return solid


def wrench(rng: np.random.Generator) -> Solid:
    """Return a combination wrench: open jaw, slim handle with a sunk panel, ring at the other end."""
    jaw, ring = rng.uniform(0.31, 0.35), rng.uniform(0.25, 0.28)
    half_slot, half_handle = jaw * rng.uniform(0.42, 0.48), rng.uniform(0.12, 0.15)
    tilt = rng.uniform(-0.30, 0.30)

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        # The jaw is a disc with a tilted slot.
        head_x = x - 0.64
        turned_x, turned_y = head_x + tilt * y, y - tilt * head_x
        slot = np.maximum(np.abs(turned_y) - half_slot, 0.02 - turned_x)
        head = np.maximum(disc(head_x, y, jaw), -slot)

        # The handle ends inside the ring's wall.
        loop = np.abs(disc(x + 0.72, y, ring * 0.72)) - ring * 0.33
        handle = capsule(x, y, (-0.50, 0.0), (0.42, 0.0), (half_handle, half_handle * 1.15))
        handle = np.maximum(handle, ring * 0.5 - disc(x + 0.72, y, 0.0))
        body = np.minimum(np.minimum(head, loop), handle)

        # Jaw and ring are higher than the handle, and the panel is sunk into it.
        panel = step(box(x + 0.03, y, 0.36, half_handle * 0.5), 0.03, -0.03)
        ends = np.maximum(fillet(head, 0.09, 0.15), fillet(loop, 0.09, 0.17))
        return body, np.maximum(ends, fillet(handle, 0.08, 0.12) - 0.05 * panel)

    return solid


def pulley(rng: np.random.Generator) -> Solid:
    """Return a grooved rim on three to five spokes with a bored hub."""
    spokes = int(rng.integers(3, 6))
    half_rim, half_spoke = rng.uniform(0.12, 0.14), rng.uniform(0.09, 0.105)
    hub = rng.uniform(0.23, 0.27)

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        # Rim, one spoke repeated by `fold`, and hub.
        centre = disc(x, y, 0.0)
        rim = np.abs(centre - 0.98 + half_rim) - half_rim
        along, across = fold(x, y, spokes)
        spoke = np.maximum(np.abs(across) - half_spoke, np.maximum(0.15 - along, along - 0.85))
        boss = np.maximum(centre - hub, 0.11 - centre)
        height = np.maximum(fillet(rim, half_rim, 0.18), fillet(spoke, half_spoke, 0.11))
        return np.minimum(np.minimum(rim, spoke), boss), np.maximum(height, fillet(boss, 0.08, 0.20))

    return solid


def cross_fitting(rng: np.random.Generator) -> Solid:
    """Return a four-way pipe fitting: round arms that end in collars."""
    pipe, collar_from = rng.uniform(0.22, 0.26), rng.uniform(0.62, 0.70)
    collar = pipe + rng.uniform(0.07, 0.10)

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        # By symmetry all points are mapped to one half arm.
        along, across = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
        arm = corner(across - pipe, along - 0.92)
        ring = corner(across - collar, np.abs(along - (collar_from + 0.94) / 2) - (0.94 - collar_from) / 2)

        # Round pipes with bevelled ends.
        tube = np.minimum(fillet(across - pipe, pipe, 0.30), chamfer(arm, 0.05, 0.30))
        sleeve = np.minimum(fillet(across - collar, collar, 0.40), chamfer(ring, 0.05, 0.40))
        return np.minimum(arm, ring), np.maximum(tube, sleeve)

    return solid


def star_knob(rng: np.random.Generator) -> Solid:
    """Return a hand knob with five pointed arms that slope from a domed centre."""
    valley, dome = rng.uniform(0.44, 0.50), rng.uniform(0.20, 0.25)
    # Unit normal of the edge from a point to the next valley.
    edge_x, edge_y = 0.97 - valley * np.cos(np.pi / 5), valley * np.sin(np.pi / 5)
    length = float(np.hypot(edge_x, edge_y))
    normal_x, normal_y = float(edge_y / length), float(edge_x / length)

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        along, across = fold(x, y, 5)
        point = (along - 0.97) * normal_x + np.abs(across) * normal_y - 0.03
        body = np.maximum(point, along - 0.95)
        cap = disc(x, y, dome)
        return body, np.maximum(chamfer(body, 0.30, 0.30), fillet(cap, 0.12, 0.10) + 0.28 * step(cap, 0.02, -0.02))

    return solid


def wing_nut(rng: np.random.Generator) -> Solid:
    """Return a bored hub with two rounded wings raised to the sides."""
    lift, blade = rng.uniform(0.34, 0.46), rng.uniform(0.24, 0.29)
    hub = rng.uniform(0.33, 0.38)

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        # Both wings are one, mirrored.
        y = y + 0.20
        wing = capsule(np.abs(x), y, (0.22, 0.04), (0.74, lift), (0.12, blade))

        # The hub is higher than the wings, and a cone leads into its bore.
        centre = disc(x, y, 0.0)
        boss = centre - hub
        hole = 0.17 - centre
        body = np.maximum(np.minimum(wing, boss), hole)
        ridge = np.maximum(fillet(wing, blade, 0.22), fillet(np.maximum(boss, hole), 0.12, 0.30))
        return body, np.minimum(ridge, -3.0 * hole)

    return solid


def hook(rng: np.random.Generator) -> Solid:
    """Return a J-shaped hook of round bar."""
    bar, bend = rng.uniform(0.105, 0.135), rng.uniform(0.38, 0.46)
    top = -0.88 + rng.uniform(0.0, 0.08)

    def solid(x: Field, y: Field) -> tuple[Field, Field]:
        # A straight shank, and a ring for the bend.
        x, y = x + 0.10, y - 0.40
        shank = capsule(x, y, (bend, 0.0), (bend, top - 0.40 + bar), (bar, bar))
        ring = np.abs(disc(x, y, bend)) - bar
        open_x, open_y = -0.94 * bend, -0.34 * bend

        # Cut the ring: the bend runs from the shank below the middle to the open end, a little above it on the left.
        gap = (y < 0.0) & (x * open_y - y * open_x < 0.0)
        bow = np.where(gap | ((y < 0.0) & (x > 0.0)), np.float32(9.0), ring)
        body = np.minimum(np.minimum(shank, bow), disc(x - open_x, y - open_y, bar))
        return body, fillet(body, bar, 1.5 * bar)

    return solid


SOLIDS: Mapping[str, Callable[[np.random.Generator], Solid]] = {
    "gear": gear,
    "bolt": bolt,
    "washer": washer,
    "hex nut": hex_nut,
    "bracket": bracket,
    "spring": spring,
    "wrench": wrench,
    "pulley": pulley,
    "cross fitting": cross_fitting,
    "star knob": star_knob,
    "wing nut": wing_nut,
    "hook": hook,
}

LATHED = frozenset({"gear", "washer", "hex nut", "pulley"})
"""Parts with circular brush strokes. The strokes of the others are parallel to their own x axis."""

LONG = frozenset({"bolt", "bracket", "spring", "wrench", "wing nut", "hook"})
"""Parts that fill little of their disc. They are drawn large, so that their strokes stay visible."""
