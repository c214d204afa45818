"""The answers of a running video on a terminal: bars that change in place, or plain lines where there is none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, TextIO

from rstg.errors import MissingExtraError

_BAR = 30


class View:
    """Shows the latest answers so often, not each of them. A context manager.

    Args:
        out: Where to. every: Seconds between two that are shown.
    """

    def __init__(self, out: TextIO, every: float) -> None:
        self.out, self.every = out, every
        self._last: float | None = None
        self._unshown: tuple[Sequence[tuple[str, float]], Callable[[], str]] | None = None

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._unshown is not None:
            self._draw(*self._unshown)

    def show(self, classes: Sequence[tuple[str, float]], status: Callable[[], str]) -> None:
        """Take names with probabilities, the likeliest first, and what gives a line on how it goes."""
        now = monotonic()
        if self._last is not None and now - self._last < self.every:
            self._unshown = (classes, status)
            return
        self._last, self._unshown = now, None
        self._draw(classes, status)

    def event(self, line: str) -> None:
        """Show at once what happened."""
        print(line, file=self.out, flush=True)

    @abstractmethod
    def _draw(self, classes: Sequence[tuple[str, float]], status: Callable[[], str]) -> None: ...


class PlainView(View):
    """A line with the likeliest class."""

    def __init__(self, out: TextIO, every: float = 1.0) -> None:
        super().__init__(out, every)

    def _draw(self, classes: Sequence[tuple[str, float]], status: Callable[[], str]) -> None:
        name, probability = classes[0]
        print(f"{status()}  {100 * probability:5.1f}%  {name}", file=self.out, flush=True)


class LiveView(View):
    """Bars of the likeliest classes, drawn again in place.

    Args:
        out: A terminal. title: What is shown.

    Raises:
        MissingExtraError: where rich is not installed.
    """

    def __init__(self, out: TextIO, title: str) -> None:
        super().__init__(out, every=0.1)
        try:
            from rich.console import Console
            from rich.live import Live
        except ImportError as error:
            raise MissingExtraError("a live view", "rich", "video") from error
        self.title = title
        self._console = Console(file=out)
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._live.__exit__(kind, error, trace)

    def event(self, line: str) -> None:
        """Show what happened, above the bars."""
        self._console.print(line, style="yellow", markup=False, highlight=False)

    def _draw(self, classes: Sequence[tuple[str, float]], status: Callable[[], str]) -> None:
        self._live.update(self._panel(classes, status()), refresh=True)

    def _panel(self, classes: Sequence[tuple[str, float]], status: str) -> Any:
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        for name, probability in classes:
            bar = ProgressBar(total=1.0, completed=probability, width=_BAR)
            table.add_row(bar, f"{100 * probability:5.1f}%", Text(name, overflow="ellipsis", no_wrap=True))
        return Panel(table, title=Text(self.title), subtitle=Text(status), title_align="left", subtitle_align="left")


def terminal_view(out: TextIO, title: str) -> View:
    """A live view on a terminal, plain lines elsewhere."""
    return LiveView(out, title) if out.isatty() else PlainView(out)
