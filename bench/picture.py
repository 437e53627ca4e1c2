"""Ratios as a picture."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

# Title, what is better, and by load and figure the groups of bars.
PANELS = (
    (
        "Processor time of the tunnel",
        "← less is better; 1 is a minimal tunnel in C",
        {
            ("open", "processor"): "for a connection",
            ("echo", "processor"): "for a 64-byte message",
            ("down", "processor"): "for a GB down",
            ("up", "processor"): "for a GB up",
        },
    ),
    (
        "Time and memory",
        "← less is better; 1 is a minimal tunnel in C",
        {
            ("open", "time"): "for a connection",
            ("echo", "time"): "for a 64-byte message",
            ("down", "time"): "for a GB down",
            ("up", "time"): "for a GB up",
            ("hold", "memory"): "memory of an idle connection",
        },
    ),
    (
        "Pages through squid to nginx, by ab",
        "more is better →; 1 is squid without a tunnel",
        {
            ("keep-alive", "rate"): "pages per second,\nkeep-alive",
            ("no keep-alive", "rate"): "pages per second,\na connection each",
        },
    ),
)
# Told apart without colour vision too; the yardstick is the line at 1.
COLOURS = ("#0b5fa5", "#6fb1e4", "#e08214", "#7f7f7f", "#9a4ea8", "#3a8f4d")


def draw(ratios: dict[tuple[str, str], dict[str, float]], path: str) -> None:
    """Write an SVG, the same bytes for the same ratios."""
    mpl.rcParams.update(
        {"svg.hashsalt": "ptunnel", "svg.fonttype": "none", "font.size": 10, "axes.titlesize": 11}
    )
    names = dict.fromkeys(name for by in ratios.values() for name in by)
    names = [name for name in names if name not in ("yardstick", "no tunnel")]
    panels = [(*p[:2], {k: v for k, v in p[2].items() if k in ratios}) for p in PANELS]
    panels = [panel for panel in panels if panel[2]]
    rows = [len(panel[2]) for panel in panels]
    figure, all_axes = pyplot.subplots(
        len(panels),
        figsize=(8.5, 1.2 + sum(rows) * (0.15 + 0.16 * len(names)) + 0.7 * len(panels)),
        height_ratios=rows,
        layout="constrained",
        squeeze=False,
        facecolor="white",
    )
    thick = 0.84 / max(len(names), 1)
    for axes, (title, better, groups) in zip(all_axes[:, 0], panels, strict=True):
        for i, name in enumerate(names):
            for row, key in enumerate(groups):
                ratio, y = ratios[key].get(name, 1), row - 0.42 + (i + 0.5) * thick
                axes.barh(y, ratio - 1, thick * 0.9, left=1, color=COLOURS[i % len(COLOURS)])
                says = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"
                says, at = says if name in ratios[key] else "no figure", max(ratio, 1)
                axes.annotate(
                    says, (at, y), (3, 0), textcoords="offset points", va="center", size=8
                )
        axes.set_xscale("log")
        axes.axvline(1, color="black", linewidth=1)
        axes.set_yticks(range(len(groups)), groups.values())
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_title(title, loc="left", weight="bold")
        axes.set_title(better, loc="right", size=9)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params("y", length=0)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
        axes.margins(x=0.08)
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=c) for c in COLOURS[: len(names)]]
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
