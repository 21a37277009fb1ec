"""The learning benchmark's table and plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["plot", "table"]

_COLUMNS = (
    ("name", "arm", "{}", 30),
    ("library", "library", "{}", 10),
    ("buffer_rows", "rows", "{}", 5),
    ("order", "order", "{}", 5),
    ("final_accuracy", "final", "{:.2f}", 6),
    ("mean_accuracy", "mean", "{:.2f}", 6),
    ("forgetting", "forgets", "{:.2f}", 7),
    ("macro_f1", "F1", "{:.2f}", 6),
    ("worst_class_accuracy", "worst", "{:.1f}", 5),
    ("calibration_error", "ECE", "{:.1f}", 5),
    ("seconds_per_update", "s/update", "{:.1f}", 8),
    ("steps", "steps", "{}", 6),
)


def table(arms: Sequence[dict[str, Any]], differences: Sequence[dict[str, Any]]) -> str:
    """Return the arms, best first within an order, and the paired differences, as text."""
    ranked = sorted(arms, key=lambda a: (a["order"], -a["final_accuracy"]))
    lines = [
        "  ".join(title.ljust(width) for _, title, _, width in _COLUMNS),
        *("  ".join(form.format(arm[key]).ljust(width) for key, _, form, width in _COLUMNS) for arm in ranked),
        "",
        *(
            f"{d['ours']} ({d['ours_buffer_rows']} rows) - {d['theirs']} ({d['theirs_buffer_rows']} rows): "
            f"{d['difference']:+.2f} [{d['low']:+.2f}, {d['high']:+.2f}] over {d['orders']} orders: {d['verdict']}"
            for d in differences
        ),
    ]
    return "\n".join(lines)


def plot(arms: Sequence[dict[str, Any]], out: Path) -> list[Path]:
    """Draw accuracy after each update (published order) and final accuracy by buffer size; SVG, one file each.

    In the first only the arms without stored rows and those with the middle budget; in the second no arm that was run
    with one budget alone.
    """
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    out.mkdir(parents=True, exist_ok=True)
    budgets = sorted({arm["buffer_rows"] for arm in arms if arm["buffer_rows"]})
    middle = budgets[len(budgets) // 2] if budgets else 0
    paths = [out / "learning-updates.svg", out / "learning-budgets.svg"]
    figure, axes = plt.subplots(figsize=(8, 5))
    shown = [arm for arm in arms if arm["order"] == 0 and arm["buffer_rows"] in {0, middle}]
    for number, arm in enumerate(sorted(shown, key=lambda a: -a["final_accuracy"])):
        name = f"{arm['name']} ({arm['buffer_rows']} rows)"
        after = arm["accuracy_after_update"]
        axes.plot(range(1, len(after) + 1), after, _style(arm), color=_colour(plt, number), label=name)
    axes.set(xlabel="update (11 new classes each)", ylabel="accuracy on the classes met so far, %")
    _finish(figure, axes, paths[0])
    figure, axes = plt.subplots(figsize=(8, 5))
    for number, name in enumerate(dict.fromkeys(arm["name"] for arm in arms)):
        mine = [arm for arm in arms if arm["name"] == name]
        sizes = sorted({arm["buffer_rows"] for arm in mine})
        means = [_mean([a["final_accuracy"] for a in mine if a["buffer_rows"] == rows]) for rows in sizes]
        if sizes == [0]:
            axes.axhline(means[0], ls=_style(mine[0]), lw=1, color=_colour(plt, number), label=f"{name} (no rows)")
        elif len(sizes) > 1 or len(budgets) == 1:
            axes.plot(sizes, means, _style(mine[0]), marker="o", color=_colour(plt, number), label=name)
    axes.set(xlabel="stored rows", ylabel="final accuracy, % (mean over orders)")
    _finish(figure, axes, paths[1])
    plt.close("all")
    return paths


def _style(arm: dict[str, Any]) -> str:
    return "-" if arm["library"] == "perennial" else "--"


def _colour(plt: Any, number: int) -> Any:
    return plt.get_cmap("tab20")(number % 20)


def _finish(figure: Any, axes: Any, path: Path) -> None:
    axes.grid(alpha=0.3)
    axes.set_title("solid: Perennial, dashed: Avalanche 0.6.0", fontsize=9)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(path, bbox_inches="tight")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
