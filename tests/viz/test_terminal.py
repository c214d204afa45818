"""The terminal's view: the latest answer is what stands there in the end, and names are no markup."""

from __future__ import annotations

import io

from rstg.viz.terminal import LiveView, PlainView, terminal_view


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_are_few_and_the_last_answer_is_among_them():
    out = io.StringIO()
    with terminal_view(out, "title") as view:
        assert isinstance(view, PlainView)
        for number in range(50):
            view.show([(f"class {number}", 0.5), ("other", 0.25)], lambda number=number: f"frame {number}")
        view.event("it is back")
    lines = out.getvalue().splitlines()
    assert lines == ["frame 0   50.0%  class 0", "it is back", "frame 49   50.0%  class 49"]


def test_bars_show_names_as_they_are():
    out = Terminal()
    with terminal_view(out, "model: [source]") as view:
        assert isinstance(view, LiveView)
        view.show([("Putting [bold]something[/bold] down", 0.75), ("Moving [red]", 0.25)], lambda: "30.0 fps")
        view.event("camera [0]: it is back")
    shown = out.getvalue()
    for text in ("Putting [bold]something[/bold] down", "Moving [red]", "75.0%", "30.0 fps", "[source]", "camera [0]"):
        assert text in shown, text
    assert "━" in shown
