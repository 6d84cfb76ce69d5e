"""Sizes that are a small base, doubled some times."""

from __future__ import annotations

from ganpipe.images import ImageShape

BASE_PX = 4  # the shorter side of the smallest map is 4, 5, 6 or 7 pixels


def doublings(shape: ImageShape) -> int:
    """How often the smallest map is doubled to reach the image."""
    return (min(shape.height_px, shape.width_px) // BASE_PX).bit_length() - 1


def base_size(shape: ImageShape) -> tuple[int, int]:
    """Height and width of the smallest map."""
    times = 2 ** doublings(shape)
    return shape.height_px // times, shape.width_px // times


def size_objection(shape: ImageShape, smallest_px: int, largest_px: int) -> str | None:
    """What is wrong with a shape, as the end of a sentence that begins with the model's name; None where nothing is."""
    for name, side in (("height", shape.height_px), ("width", shape.width_px)):
        if not smallest_px <= side <= largest_px:
            fits = min(max(side, smallest_px), largest_px)
            return (
                f"makes sides from {smallest_px} to {largest_px} pixels, and data.{name}_px is {side}: "
                f"set it to {fits}, or choose another model.name."
            )
    times = 2 ** doublings(shape)
    for name, side in (("height", shape.height_px), ("width", shape.width_px)):
        if side % times:
            fits = max(times, round(side / times) * times)
            return (
                f"doubles a small map {doublings(shape)} times, and data.{name}_px={side} is no multiple of {times}: "
                f"set it to {fits}."
            )
    return None
