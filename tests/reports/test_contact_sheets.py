"""Contact sheets: drawn again for a batch that has grown, never over somebody else's file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ganpipe.reports.contact_sheets import CELL_PX, GAP_PX, contact_sheets, shown_contents
from ganpipe.style.batch.plan import StyledItem
from tests.conftest import fill_folder, noise_image


def results(folder: Path, *outputs: str) -> list[StyledItem]:
    """Results of one content and style, whose outputs are called so."""
    content, style = (str(path) for path in sorted(fill_folder(folder / "in", 2).iterdir()))
    for name in outputs:
        noise_image(3).save(folder / name)
    return [StyledItem(content, (style,), str(folder / name), "done") for name in outputs]


def test_a_sheet_follows_its_batch_and_another_batch_gets_another_sheet(tmp_path: Path) -> None:
    [first] = contact_sheets(results(tmp_path, "a.png"), tmp_path, anew=True)
    [grown] = contact_sheets(results(tmp_path, "a.png", "b.png"), tmp_path, anew=True)
    [other] = contact_sheets(results(tmp_path, "c.png"), tmp_path, anew=True)
    assert first == grown == tmp_path / "contact-sheet.png"
    assert other.name.startswith("contact-sheet_")
    assert contact_sheets(results(tmp_path, "c.png"), tmp_path, anew=False) == [other]


def test_a_strangers_sheet_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "contact-sheet.png"
    mine.write_bytes(b"mine")
    contact_sheets(results(tmp_path, "a.png"), tmp_path, anew=True)
    assert mine.read_bytes() == b"mine"


def test_a_sheet_says_which_of_the_contents_it_shows() -> None:
    names = [str(k) for k in range(25)]
    assert shown_contents(names[:1], names[:1]) == "1 content"
    assert shown_contents(names[:12], names[:12]) == "12 contents"
    assert shown_contents(names, names[12:24]) == "contents 13 to 24 of 25"
    assert shown_contents(names, names[24:]) == "content 25 of 25"


def test_contents_styles_and_results_fill_cells_in_the_shape_of_each_content(tmp_path: Path) -> None:
    """Contents 2:1 and 1:2, results of a few pixels: no white but the gaps, and the colors in their places."""
    sizes = {"wide": (400, 200), "tall": (200, 400), "style": (300, 300)}
    colors = {"wide": "#aa0000", "tall": "#00aa00", "style": "#0000aa"}
    for name, size in sizes.items():
        Image.new("RGB", size, colors[name]).save(tmp_path / f"{name}.png")
    results = []
    for name in ("wide", "tall"):
        Image.new("RGB", (sizes[name][0] // 20, sizes[name][1] // 20), "#aaaa00").save(
            tmp_path / f"{name}-out.png"
        )
        content, style, output = (str(tmp_path / f"{file}.png") for file in (name, "style", f"{name}-out"))
        results.append(StyledItem(content, (style,), output, "done"))
    [path] = contact_sheets(results, tmp_path, anew=True)
    sheet = Image.open(path).convert("RGB")
    cells: list[tuple[int, str | None, str | None]] = [
        (CELL_PX // 2, None, "style"),  # as high as a content in the middle
        (CELL_PX // 2, "wide", None),
        (CELL_PX * 2, "tall", None),
    ]
    assert sheet.size == (2 * CELL_PX + 3 * GAP_PX, sum(height for height, _, _ in cells) + 4 * GAP_PX)
    y, left, right = GAP_PX, GAP_PX, CELL_PX + 2 * GAP_PX
    for height, first, second in cells:
        for x, shown in ((left, first), (right, second)):
            corners = {sheet.getpixel((x + dx, y + dy)) for dx in (0, CELL_PX - 1) for dy in (0, height // 2)}
            expected = colors.get(shown or "", "#ececec" if y == GAP_PX else "#aaaa00")
            assert corners == {tuple(bytes.fromhex(expected[1:]))}
        y += height + GAP_PX


def test_the_names_of_content_and_style_stand_in_their_cells(tmp_path: Path) -> None:
    def bars(name: str) -> list[bytes]:
        item = results(tmp_path, "a.png")[0]
        sources = (item.content, *item.styles)
        content, style = (Path(p).rename(tmp_path / f"{name}-{k}.png") for k, p in enumerate(sources))
        shown = StyledItem(str(content), (str(style),), item.output, "done")
        [sheet] = contact_sheets([shown], tmp_path, anew=True)
        image = Image.open(sheet)
        height = (image.height - 3 * GAP_PX) // 2
        ends = [(CELL_PX + 2 * GAP_PX, GAP_PX + height), (GAP_PX, 2 * (GAP_PX + height))]
        return [image.crop((x, y - 16, x + CELL_PX, y)).tobytes() for x, y in ends]

    assert all(one != other for one, other in zip(bars("monet"), bars("hokusai"), strict=True))
