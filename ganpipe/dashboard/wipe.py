"""Two pictures of the same size over each other, and a slider that shows more of one or of the other."""

from __future__ import annotations

from nicegui.element import Element

from ganpipe.dashboard.layout import image, text

MOVE = "event => event.target.parentElement.style.setProperty('--cut', event.target.value + '%')"


def wipe(left: tuple[str, str], right: tuple[str, str]) -> Element:
    """Each: the address of the picture and what it is, such as "champion". The arrow keys move the slider, too."""
    with Element("div").classes("wipe") as box:
        image(left[0], left[1])
        image(right[0], right[1], "picture over")
        text(left[1], "span", "name")
        text(right[1], "span", "name right")
        slider = Element("input").props("type=range min=0 max=100 value=50")
        slider.props["aria-label"] = f"{left[1]} or {right[1]}"
        slider.on("input", js_handler=MOVE)
    return box
