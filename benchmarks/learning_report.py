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
    """Draw accuracy after each update (published order) and final accuracy by buffer size; SVG, one file each."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    out.mkdir(parents=True, exist_ok=True)
    first = [arm for arm in arms if arm["order"] == 0]
    figure, axes = plt.subplots(figsize=(9, 5.5))
    for arm in sorted(first, key=lambda a: -a["final_accuracy"]):
        style = "-" if arm["library"] == "perennial" else "--"
        name = f"{arm['name']} {arm['buffer_rows']}" if arm["buffer_rows"] else arm["name"]
        axes.plot(range(1, len(arm["accuracy_after_update"]) + 1), arm["accuracy_after_update"], style, label=name)
    axes.set(xlabel="update (11 new classes each)", ylabel="accuracy on the classes met so far, %", ylim=(60, 100))
    axes.legend(fontsize=7, ncols=2)
    paths = [out / "learning-updates.svg"]
    figure.savefig(paths[0], bbox_inches="tight")
    figure, axes = plt.subplots(figsize=(9, 5.5))
    for name in dict.fromkeys(arm["name"] for arm in arms):
        mine = [arm for arm in arms if arm["name"] == name]
        budgets = sorted({arm["buffer_rows"] for arm in mine})
        means = [_mean([a["final_accuracy"] for a in mine if a["buffer_rows"] == rows]) for rows in budgets]
        style = "o-" if mine[0]["library"] == "perennial" else "s--"
        if budgets == [0]:
            axes.axhline(means[0], ls=style[1:], lw=1, label=f"{name} (no rows)")
        else:
            axes.plot(budgets, means, style, label=name)
    axes.set(xlabel="stored rows", ylabel="final accuracy, % (mean over orders)", ylim=(50, 100))
    axes.legend(fontsize=7)
    paths.append(out / "learning-budgets.svg")
    figure.savefig(paths[1], bbox_inches="tight")
    plt.close("all")
    return paths


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
