"""`label queue|export|submit|doubts|proposals|accept`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.ops.cli.console import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    ModelOption,
    print_json,
    print_records,
    print_table,
    say,
)
from perennial.ops.cli.new_labels import say_new_labels
from perennial.ops.cli.prefixes import completed
from perennial.ops.cli.session import model_session
from perennial.ops.commands.exchange import Exchange

if TYPE_CHECKING:
    from perennial.ops.commands.class_proposals import Proposed
    from perennial.ops.parts import Parts

__all__ = ["register"]

_PREFIX = re.compile("[0-9a-f]{4,31}")  # of a prediction id
_NEWEST = 20_000  # requests, whose ids a prefix may mean
_app = typer.Typer(help="Which requests are worth a label, and the labels given.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="label")


@_app.command()
def queue(
    model: ModelOption = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="most requests to show")] = 20,
    fill: Annotated[
        int, typer.Option(min=0, max=1_000, help="choose so many more; 0 only when the queue is empty")
    ] = 0,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Requests to label next: unsure ones, ones of no class, unusual ones, and some drawn at random.

    With --dry-run the queue is shown as it is and not filled.
    """
    from perennial.ops.commands.label_queue import LabelQueue

    with model_session(config, model) as (parts, model):
        wanted = 0 if dry_run else fill or None
        queue = LabelQueue(parts.ledger, parts.workspace, model).waiting(limit=limit, fill=wanted)
    if as_json:
        print_json(queue)
        return
    if not queue.items:
        say(f"no request of {model} waits: there is no traffic yet, or all of it that can be chosen has a label")
    columns = ("prediction_id", "text", "answered", "confidence", "reason")
    print_records(f"Requests of {model} to label", columns, queue.items)
    if (accuracy := queue.accuracy) is not None:
        say(f"accuracy by the labels so far: {accuracy.accuracy:.1%} (95 %: {accuracy.low:.1%} to {accuracy.high:.1%})")
    say(f"label one: perennial label submit PREDICTION LABEL --model {model}; many: feedback import FILE.csv")


@_app.command()
def export(
    file: Annotated[Path, typer.Argument(help="a .json file that does not exist yet")],
    to: Annotated[Exchange, typer.Option(help="whose format")] = Exchange.LABEL_STUDIO,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="most requests to write")] = 1_000,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Write the queue for Label Studio or Argilla; `feedback import` reads what they export.

    For Label Studio FILE.xml beside it is the labelling interface, with the classes that the champion knows.
    """
    import json

    from perennial.continual.errors import NotFound, Refused
    from perennial.ops.commands.exchange import exported, labelling_config
    from perennial.ops.commands.label_queue import LabelQueue

    with model_session(config, model) as (parts, model):
        if (route := parts.ledger.route(model)) is None:
            raise NotFound(f"model {model} serves no version yet, so that no request waits for a label")
        labels = parts.ledger.version(model, route.champion).labels
        items = LabelQueue(parts.ledger, parts.workspace, model).open_items(limit)
    beside = file.with_suffix(".xml")
    written = [file, *([beside] if to is Exchange.LABEL_STUDIO else [])]
    if there := [path for path in written if path.exists()]:
        raise Refused(f"{there[0]} exists; name a file that does not")
    if not items:
        say(f"no request of {model} waits; `perennial label queue --model {model} --fill 100` chooses some")
    if not dry_run:
        tasks = exported(items, to, model=model)
        file.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
        if to is Exchange.LABEL_STUDIO:
            beside.write_text(labelling_config(labels), encoding="utf-8")
    print_json({"dry_run": dry_run, "requests": len(items), "files": written})


@_app.command()
def submit(
    prediction: Annotated[
        str, typer.Argument(help="the prediction id, or its first characters where they tell it from all others")
    ],
    label: Annotated[str, typer.Argument(help="the right label; a new one starts a new class")],
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Give one request its label. A later label for the same request replaces it."""
    from datetime import UTC, datetime

    from perennial.continual.errors import NotFound
    from perennial.continual.preparation import admit_prediction_id
    from perennial.ops.commands.first_version import register as register_models
    from perennial.ops.store.feedback import GivenLabel, add_labels, admit_given, known_labels
    from perennial.ops.store.traffic_of import traffic_of

    with model_session(config, model) as (parts, model):
        if _PREFIX.fullmatch(prediction):
            prediction = _completed(parts, model, prediction)
        prediction = admit_prediction_id(prediction)
        answered = traffic_of(parts.workspace, model).lookup([prediction], columns=["prediction"]).to_pylist()
        if not answered:
            raise NotFound(
                f"prediction {prediction!r} is not in the traffic of {model}; see `perennial label queue` for ids, or "
                "label a text of your own with `perennial feedback import`"
            )
        given = GivenLabel(prediction_id=prediction, label=label)
        row = admit_given(given, known=known_labels(parts.ledger, model), now=datetime.now(UTC))
        say_new_labels(parts, model, [row.label])
        if dry_run:
            print_json({"dry_run": True, "answered": answered[0]["prediction"], "label": row.label})
            return
        register_models(parts.ledger, parts.workspace)
        print_json(add_labels(parts.ledger, model, [row]))


def _completed(parts: "Parts", model: str, prefix: str) -> str:
    """The id that begins so, among those that wait for a label and those of the newest requests."""
    from perennial.ops.commands.label_queue import LabelQueue
    from perennial.ops.store.traffic_of import traffic_of

    waiting = [item.prediction_id for item in LabelQueue(parts.ledger, parts.workspace, model).open_items(1_000)]
    newest = traffic_of(parts.workspace, model).read(last=_NEWEST, columns=["prediction_id"])["prediction_id"]
    listed_by = f"perennial label queue --model {model}"
    return completed(prefix, [*waiting, *newest.to_pylist()], what="prediction", listed_by=listed_by)


@_app.command()
def doubts(
    model: ModelOption = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 20,
    rows: Annotated[int, typer.Option(min=10, max=100_000, help="newest requests to look at")] = 5_000,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Given labels that the model has good reason to doubt; a person decides."""
    from perennial.ops.commands.label_queue import LabelQueue

    with model_session(config, model) as (parts, model):
        doubts = LabelQueue(parts.ledger, parts.workspace, model).doubts(rows=rows)[:limit]
    if as_json:
        print_json(doubts)
        return
    print_table(
        f"Labels of {model} to look at again",
        ("prediction", "text", "given", "suggested", "excess"),
        ((row.prediction_id, row.text, row.given, row.suggested, row.excess) for row in doubts),
    )


@_app.command()
def proposals(
    model: ModelOption = "",
    rows: Annotated[int, typer.Option(min=10, max=100_000, help="newest requests to look at")] = 5_000,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Classes that the traffic asks for: requests of none of the classes, in groups of texts alike.

    A proposal's number means the same requests for good. With --dry-run new groups are shown and get no number.
    """
    from perennial.ops.commands.class_proposals import ClassProposals

    with model_session(config, model) as (parts, model):
        found = ClassProposals(parts.ledger, parts.workspace, model).look(rows=rows, dry_run=dry_run)
    if as_json:
        print_json(found)
        return
    say(_told(found, model))
    if not found.proposals:
        return
    print_table(
        f"Classes that the traffic of {model} asks for",
        ("proposal", "rows", "words", "answered as", "texts"),
        ((p.number or "-", p.rows, p.name, ", ".join(p.answered_as), "\n".join(p.texts[:3])) for p in found.proposals),
    )
    say(f"begin a class with one: perennial label accept PROPOSAL NAME --model {model}")


@_app.command()
def accept(
    proposal: Annotated[int, typer.Argument(min=1, help="its number, as `label proposals` shows it")],
    label: Annotated[str, typer.Argument(help="the class of its requests; a new one starts a new class")],
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Give all requests of a proposal one label, with which the next version begins a class."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from perennial.ops.commands.class_proposals import ClassProposals
    from perennial.ops.commands.first_version import register as register_models

    with model_session(config, model) as (parts, model):
        if not dry_run:
            register_models(parts.ledger, parts.workspace)
        say_new_labels(parts, model, [label])
        classes = ClassProposals(parts.ledger, parts.workspace, model)
        done = classes.accept(proposal, label, now=datetime.now(UTC), dry_run=dry_run)
    if done.labelled < done.least_rows:
        say(f"{done.labelled} rows are fewer than the {done.least_rows} that a class needs; label some more")
    print_json({"dry_run": True, **asdict(done)} if dry_run else done)


def _told(found: "Proposed", model: str) -> str:
    """What the requests were found to be, in a sentence."""
    if not found.requests:
        return f"{model} has no traffic yet"
    if found.undecided == found.requests:
        return (
            f"the versions that answered the newest {found.requests:,} requests of {model} cannot tell what is of no "
            "class: they had too few held-out rows, were taken over, or are of an earlier release"
        )
    share = found.of_no_class / (found.requests - found.undecided)
    groups = "no group of texts alike" if not found.proposals else f"groups of texts alike: {len(found.proposals)}"
    told = f"{found.of_no_class:,} of the newest {found.requests:,} requests ({share:.1%}) are of no class; {groups}"
    if not found.ungrouped:
        return told
    return f"{told}; {found.ungrouped:,} are in none, for they have no embedding by the champion's encoder"
