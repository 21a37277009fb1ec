"""`demo`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from perennial.continual.learning.names import LearnerName
from perennial.ops.cli.console import print_table, say
from perennial.ops.safety.printable import printable

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    recipe: Annotated[
        str, typer.Option(help="of a recipe: opinion, recommendation, service; default a text classifier's")
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option(
            help="folder with train.csv and test.csv (text,category), or with one table (date,text,label) whose rows "
            "come in the order of their dates; with --recipe as `init` takes it; default generated data"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for everything the demo makes")] = Path("var/demo"),
    seed: Annotated[int, typer.Option(help="of data, stream and labels")] = 0,
    rate: Annotated[
        float | None, typer.Option(help="requests a second; default 30, of a recipe its own", show_default=False)
    ] = None,
    first: Annotated[int, typer.Option(help="intents known at the start (with --data)")] = 40,
    waves: Annotated[int, typer.Option(help="waves in which the others arrive; 1 makes it short")] = 3,
    label_share: Annotated[float, typer.Option(help="share of the answers that get a label")] = 0.8,
    replay_rows: Annotated[int, typer.Option(help="size of the replay buffer")] = 770,
    learner: Annotated[
        str | None,
        typer.Option(help=f"one of {', '.join(LearnerName)}; default kernel_lda, and auto for dated rows"),
    ] = None,
    kill_triton_at: Annotated[int | None, typer.Option(help="kill the inference server at this request")] = None,
) -> None:
    """Serve, let the world change, and watch the loop keep the model good, unattended."""
    if recipe:
        _by_recipe(recipe, out, data, seed, rate)
        return
    from perennial.ops.demo.data import dated_file
    from perennial.ops.demo.options import DemoOptions
    from perennial.ops.demo.run import run_demo
    from perennial.ops.demo.story import Learners, headline, table

    dated = data is not None and dated_file(data) is not None
    options = DemoOptions(
        out=out,
        data=data,
        seed=seed,
        rate=rate or 30.0,
        first_intents=first,
        waves=waves,
        label_share=label_share,
        replay_rows=replay_rows,
        learner=learner or (LearnerName.AUTO if dated else LearnerName.KERNEL_LDA).value,
        kill_triton_at=kill_triton_at,
        finish_requests=200 if data is None else None,
        retrain_every_s=600.0 if data is None else 180.0,  # drift is to ask first; the schedule learns what is left
        retrain_on_labels=500 if dated else None,
    )
    with _screen() as progress:
        summary = run_demo(options, progress)
    title, told = headline(Learners(**summary["stream"]["since_change"]), natural=dated)
    for heading, rows in table(summary):
        print_table(heading, ("figure", "value"), rows)
    say(f"{title}. {told}")
    _tell_places(out)


def _by_recipe(recipe: str, out: Path, data: Path | None, seed: int, rate: float | None) -> None:
    from perennial.ops.demo.recipes import RecipeDemoOptions, recipe_demo

    with _screen() as progress:
        summary = recipe_demo(recipe).run(RecipeDemoOptions(out=out, data=data, seed=seed, rate=rate), progress)
    print_table("What happened", ("figure", "value"), summary.items())
    _tell_places(out)


def _tell_places(out: Path) -> None:
    say(f"figures: {out / 'summary.json'}   plots: {out / 'report.html'}   log: {out / 'serve.log'}")


@contextmanager
def _screen() -> Iterator[Any]:
    """A live panel on a terminal; on anything else a line at each change."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        panel = _Panel()
        with Live(console=Console(stderr=True), refresh_per_second=4, get_renderable=panel.render):
            yield panel.show
    else:
        yield _Lines().show


def sentence_of(kind: str, facts: dict[str, Any]) -> str | None:
    """An event as a sentence; None when it is of no interest."""
    if kind == "event":
        return _sentence_of_event(facts["name"], facts["facts"])
    sentences = {
        "training": "training version 1 on {rows} rows of {intents} intents",
        "learning": "training version 1 on {rows} {what}",
        "change": "the world changes: {what}",
        "starting": "starting Triton and the loop (grpc {grpc})",
        "wave": "the world changes: wave {wave} with {intents} new intents",
        "killed": "killed Triton (pid {pid}) at request {request}",
        "examining": "examining the last version on the test set",
    }
    return sentences[kind].format(**facts) if kind in sentences else None


def _sentence_of_event(name: str, facts: dict[str, Any]) -> str | None:
    match name:
        case "drift.window" if facts["state"] != "ok" or facts["drifted"]:
            signals = ", ".join(facts["signals"]) or "no signal"
            return f"drift {facts['state']}: {signals} (score {facts['score']:.1f})"
        case "cycle.opened":
            return f"cycle {facts['cycle']} opened for version {facts['version']}: {facts['reason']}"
        case "cycle.state":
            return f"version {facts['version']}: {facts['state']}" + (f" ({facts['note']})" if facts["note"] else "")
        case "gate.decided":
            verdict = "accepted" if facts["accepted"] else "refused: " + "; ".join(facts["reasons"])
            return (
                f"gate {verdict}; fresh rows {facts['fresh_champion_accuracy']:.3f} -> "
                f"{facts['fresh_challenger_accuracy']:.3f}, forgetting {facts['forgetting_points']:.2f} points"
            )
        case "route.promoted":
            return f"version {facts['version']} answers now; replay buffer holds {facts['replay_rows']} rows"
        case "route.rolled_back":
            return f"rolled back to version {facts['version']}: {facts['reason']}"
        case "reconcile.healed":
            return f"healed: {facts['what']}"
        case _:
            return None


class _Lines:
    """One line a change, and the counters now and then."""

    def __init__(self) -> None:
        self._phase, self._ticks = "", 0

    def show(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "tick":
            self._ticks += 1
            if facts["phase"] == self._phase and self._ticks % 40:
                return
            self._phase = facts["phase"]
            say(_counters(facts))
        elif (sentence := sentence_of(kind, facts)) is not None:
            say(sentence)


def _counters(facts: dict[str, Any]) -> str:
    labels = f"{facts['labels']} labels" if "labels" in facts else f"{facts['feedback']} signals"
    if "accuracy" in facts:
        quality = "accuracy - " if facts["accuracy"] is None else f"accuracy {facts['accuracy']:.1%}"
    else:
        quality = facts["quality"]
    return (
        f"{facts['phase']}: {facts['requests']} requests, {facts['failed']} failed, {labels}, "
        f"of the last 200 {quality.strip()}, version {facts['version']}"
    )


class _Panel:
    """What the terminal shows while it runs."""

    def __init__(self) -> None:
        self._tick: dict[str, Any] = {}
        self._step = ""
        self._news: list[str] = []

    def show(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "tick":
            self._tick = facts
        elif kind == "training.step":
            self._step = f"{facts.get('stage', '')} {facts.get('done', '')}/{facts.get('total', '')}"
        elif kind == "event" and facts["name"].endswith(".progress"):
            step = facts["facts"]
            self._step = f"{facts['name'].split('.')[0]}: {step.get('stage', '')}"
        elif (sentence := sentence_of(kind, facts)) is not None:
            self._news = [*self._news, sentence][-12:]

    def render(self) -> Any:
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        lines: list[Any] = [Text(_counters(self._tick), style="bold")] if self._tick else []
        if self._step:
            lines.append(Text(printable(f"working: {self._step}", one_line=True), style="dim"))
        lines += [Text(printable(sentence, one_line=True)) for sentence in self._news]
        return Panel(Group(*lines), title="perennial demo", border_style="green")
