"""The report card as one picture, drawn with Pillow."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from ganpipe.files import escape_control
from ganpipe.reports.fonts import font
from ganpipe.reports.report_card import VERDICT_COLORS, ReportCard

WIDTH_PX, MARGIN_PX = 1200, 48
INNER_PX = WIDTH_PX - 2 * MARGIN_PX
INK, GRAY, RULE = "#1c1c22", "#5c6470", "#e6e7ea"
TITLE, HEADING, TEXT, SMALL = 38, 23, 18, 15  # sizes of letters
COLUMNS = (0, 620, 800)  # of the metrics: left edge of the name, right edges of the two numbers


def draw_card(card: ReportCard) -> Image.Image:
    """The page, as high as it must be."""
    page = Page()
    page.text(card.dataset, TITLE, bold=True)
    page.badge(card.verdict, VERDICT_COLORS.get(card.verdict, GRAY))
    for sentence in card.evidence:
        page.text(f"•  {sentence}", TEXT)
    if card.advice:
        page.text(f"Next: {card.advice}", TEXT, bold=True)
    if card.gate:
        page.heading("Gate")
        for sentence in card.gate:
            page.text(sentence, TEXT)
    for picture in card.pictures:
        page.heading(picture.title)
        if picture.about:
            page.text(picture.about, SMALL, GRAY)
        page.picture(picture.image)
    if card.metrics:
        page.heading("Metrics")
        page.text(card.metrics_about, SMALL, GRAY)
        page.row(("metric", "generated", "real"), bold=True)
        for row in card.metrics:
            page.row((row.name, row.generated, row.real), row.note)
    page.heading("Settings")
    for name, value in [*card.settings, *([("time", card.seconds)] if card.seconds else [])]:
        page.pair(name, value)
    page.rule()
    page.text(card.origin, SMALL, GRAY)
    return page.cut()


class Page:
    """A white page that is written from top to bottom and grows."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH_PX, 1000), "white")
        self.draw = ImageDraw.Draw(self.image)
        self.y = MARGIN_PX

    def text(
        self, text: str, size: int, color: str = INK, bold: bool = False, x: int = 0, width: int = INNER_PX
    ) -> None:
        """A paragraph, `x` right of the margin, broken into lines of `width`."""
        letters, step = font(size, bold), round(1.45 * size)
        for line in _wrap(escape_control(text), letters, width):
            self._grow(step)
            self.draw.text((MARGIN_PX + x, self.y), line, color, letters)
            self.y += step
        self.y += size // 3

    def heading(self, text: str) -> None:
        """A heading, with room above it."""
        self.y += 26
        self.text(text, HEADING, bold=True)

    def badge(self, text: str, color: str) -> None:
        """A word in white on a rounded ground."""
        letters = font(22, True)
        width = round(letters.getlength(text)) + 36
        self._grow(56)
        box = (MARGIN_PX, self.y, MARGIN_PX + width, self.y + 40)
        self.draw.rounded_rectangle(box, 20, color)
        self.draw.text((MARGIN_PX + 18, self.y + 20), text, "white", letters, anchor="lm")
        self.y += 56

    def picture(self, image: Image.Image) -> None:
        """A picture, made smaller if it is wider than the page."""
        shown = image.copy()
        shown.thumbnail((INNER_PX, 4 * INNER_PX), Image.Resampling.LANCZOS)
        self._grow(shown.height + 10)
        self.image.paste(shown, (MARGIN_PX, self.y + 4))
        self.y += shown.height + 10

    def row(self, cells: tuple[str, str, str], note: str = "", bold: bool = False) -> None:
        """A row of the metrics; a note stands below it."""
        self._grow(34)
        for edge, anchor, cell in zip(COLUMNS, ("la", "ra", "ra"), cells, strict=True):
            self.draw.text(
                (MARGIN_PX + edge, self.y), escape_control(cell), INK, font(TEXT, bold), anchor=anchor
            )
        self.y += 28
        if note:
            self.text(note, SMALL, GRAY, width=COLUMNS[-1])
        self.draw.line((MARGIN_PX, self.y, MARGIN_PX + COLUMNS[-1], self.y), RULE)
        self.y += 6

    def pair(self, name: str, value: str) -> None:
        """A setting."""
        self._grow(30)
        self.draw.text((MARGIN_PX, self.y), name, GRAY, font(TEXT))
        self.text(value, TEXT, x=160, width=INNER_PX - 160)

    def rule(self) -> None:
        """A line across the page."""
        self._grow(40)
        self.draw.line((MARGIN_PX, self.y + 18, WIDTH_PX - MARGIN_PX, self.y + 18), RULE)
        self.y += 32

    def cut(self) -> Image.Image:
        """The page without the empty rest."""
        return self.image.crop((0, 0, WIDTH_PX, self.y + MARGIN_PX // 2))

    def _grow(self, px: int) -> None:
        """Makes room for so many pixels below."""
        needed = self.y + px + MARGIN_PX
        if needed > self.image.height:
            taller = Image.new("RGB", (WIDTH_PX, max(needed, 2 * self.image.height)), "white")
            taller.paste(self.image, (0, 0))
            self.image, self.draw = taller, ImageDraw.Draw(taller)


def _wrap(text: str, letters: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines of at most `width` pixels; a longer word is cut."""
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if letters.getlength(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        while letters.getlength(word) > width:
            fits = next(
                k for k in range(len(word) - 1, 0, -1) if letters.getlength(word[:k]) <= width or k == 1
            )
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line else lines
