"""Who becomes champion: buttons that ask why and run the command, or the commands to type where pages only show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui.element import Element

from ganpipe.dashboard.acting import ask_why, button
from ganpipe.dashboard.layout import code, text
from ganpipe.stores.registered_models import CHAMPION, PREVIOUS, RegisteredModel, RegisteredVersion
from ganpipe.stores.run_records import RunRecord

Change = Callable[..., Awaitable[None]]  # says what it does, runs the words of a command, draws the page anew


def draw_challenger_choices(
    model: RegisteredModel, version: RegisteredVersion, record: RunRecord, change: Change | None
) -> None:
    """Promote it; keep the champion, if it waits for a person."""
    waits = record.gate is not None and record.gate.waiting
    with Element("div").classes("row choices"):
        if waits:
            text("It waits for a person:", "span")
        if change is None:
            code(f"ganpipe promote {record.run_id}{' --force' if record.refusal else ''}")
            if waits:
                code(f"ganpipe refuse {record.run_id}")
            return
        draw_promote(model, version, record, change)
        if waits:
            _draw_refuse(model, version, record, change)


def draw_promote(
    model: RegisteredModel, version: RegisteredVersion, record: RunRecord, change: Change
) -> None:
    """A button that makes a version the champion; of a refused one it says why, and offers force."""
    name = f"v{version.version}"
    label = "Promote all the same" if record.refusal else f"Promote {name}"
    sentence = (
        f"It was refused: {record.refusal}"
        if record.refusal
        else f"generate, stylize and the next comparison use it instead of {_champion(model)}."
        if model.with_alias(CHAMPION)
        else "generate, stylize and the next comparison use it."
    )

    async def promote() -> None:
        why = await ask_why(f"Make {name} the champion?", sentence, label)
        if why is not None:
            force = ["--force"] if record.refusal else []
            await change(f"Promoting {name} …", "promote", record.run_id, f"--because={why}", *force)

    button("Promote", promote).props("outline" if record.refusal else "")


def _draw_refuse(
    model: RegisteredModel, version: RegisteredVersion, record: RunRecord, change: Change
) -> None:
    name, champion = f"v{version.version}", model.with_alias(CHAMPION)
    label = "Keep the champion" if champion else f"Refuse {name}"

    async def refuse() -> None:
        sentence = f"{name} waits no longer. It stays registered, and can be promoted by force."
        why = await ask_why(f"{label}?", sentence, f"Keep v{champion.version}" if champion else label)
        if why is not None:
            await change(f"Refusing {name} …", "refuse", record.run_id, f"--because={why}")

    button(label, refuse).props("outline")


def draw_rollback(model: RegisteredModel, change: Change | None) -> None:
    """A button that makes the champion before the champion again; nothing if there was none."""
    before = model.with_alias(PREVIOUS)
    if before is None:
        return
    if change is None:
        code(f"ganpipe rollback --dataset {model.dataset}")
        return
    act = change
    name = f"v{before.version}"

    async def roll_back() -> None:
        sentence = f"{_champion(model)} is the champion now; it stays registered."
        why = await ask_why(f"Make {name} the champion again?", sentence, "Roll back")
        if why is not None:
            await act(
                f"Rolling back to {name} …", "rollback", f"--dataset={model.dataset}", f"--because={why}"
            )

    button(f"Roll back to {name}", roll_back).props("outline")


def _champion(model: RegisteredModel) -> str:
    champion = model.with_alias(CHAMPION)
    return f"v{champion.version}" if champion else "none"
