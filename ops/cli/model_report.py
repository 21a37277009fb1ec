"""`model report`: how good a version is, beside simple baselines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.ops.cli.console import ConfigOption, JsonOption, ModelOption, print_json, print_table, say
from perennial.ops.cli.session import model_session

if TYPE_CHECKING:
    from perennial.ops.parts import Parts
    from perennial.ops.views.model_report import ModelReport

__all__ = ["report"]


def report(
    version: Annotated[int | None, typer.Argument(help="default the one that answers", show_default=False)] = None,
    model: ModelOption = "",
    html: Annotated[Path | None, typer.Option(help="write a page there; it holds texts of requests")] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="first ask it about disturbed texts, other names and other wordings")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """How good a version is on rows that it has not learnt, beside the commonest class and word counts (TF-IDF).

    Where settings declare attributes of people, it tells whom the version answers worse; docs/fairness.md.
    Of a ranking: beside the most liked items, with what its lists show and what the log says of other choices.
    """
    from perennial.continual.atomic_file import write_atomically
    from perennial.continual.errors import NotFound

    with model_session(config, model) as (parts, model):
        if version is None:
            route = parts.ledger.route(model)
            if route is None:
                raise NotFound(
                    f"model {model} serves no version yet; train the first with `perennial init {model} --data FILE`"
                )
            version = route.champion
        if probe:
            from perennial.ops.making.probing import probe_version

            probe_version(parts.ledger, parts.workspace, model, version)
        told = _TOLD.get(parts.settings.task_of(model), _of_labels)(parts, model, version)
    if html is not None:
        write_atomically(html, told.page())
        say(f"wrote {html}; it quotes texts of requests, and an erasure does not reach it")
    if as_json:
        print_json(told.report)
    elif html is None:
        told.show()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """A report, its page, and how it is shown on a terminal."""

    report: Any
    page: Callable[[], str]
    show: Callable[[], None]


def _of_labels(parts: "Parts", model: str, version: int) -> _Told:
    from perennial.ops.views.model_report import model_report
    from perennial.ops.views.model_report_page import model_report_page

    report = model_report(parts.ledger, parts.workspace, model, version)
    return _Told(report=report, page=lambda: model_report_page(report), show=lambda: _show(report))


def _of_lists(parts: "Parts", model: str, version: int) -> _Told:
    from perennial.ops.views.ranking_report import ranking_report
    from perennial.ops.views.ranking_report_lines import ranking_report_lines, ranking_report_page

    report = ranking_report(parts.ledger, parts.workspace, model, version)

    def show() -> None:
        for line in ranking_report_lines(report):
            say(line)

    return _Told(report=report, page=lambda: ranking_report_page(report), show=show)


_TOLD: Mapping[str, Callable[["Parts", str, int], _Told]] = {"ranking": _of_lists}  # all others are told by labels


def _show(report: "ModelReport") -> None:
    from perennial.ops.views.fairness_lines import fairness_lines, probe_lines
    from perennial.ops.views.model_report_lines import finding_lines, of_no_class, privacy_told

    say(report.verdict)
    if report.answers is not None:
        figures = report.answers
        interval = f"{figures.accuracy:.3f} [{figures.low:.3f}, {figures.high:.3f}]"
        print_table(
            f"{report.model} version {report.version}: {figures.rows} held-out rows, {report.classes} classes",
            ("who answers", "accuracy [95%]", "macro F1", "calibration error"),
            [
                ("this version", interval, figures.macro_f1, figures.calibration_error),
                *((each.name, f"{each.accuracy:.3f}", each.macro_f1, None) for each in report.baselines),
            ],
        )
        worst = [(each.label, each.rows, each.recall) for each in figures.worst]
        print_table("Worst classes", ("class", "rows", "answered rightly"), worst)
        pairs = [(pair.label, pair.answered, pair.rows, " | ".join(pair.examples)) for pair in figures.confused]
        print_table("Most confused", ("class", "answered as", "rows", "for example"), pairs)
    if report.unserved:
        missing = [(each.label, each.rows) for each in report.unserved]
        print_table("Classes that it does not answer with", ("class", "rows"), missing)
    about_people = (*fairness_lines(report.fairness), *probe_lines(report.probed))
    promised = (of_no_class(report.open_set), privacy_told(report.privacy))
    for line in (*promised, *finding_lines(report.findings), *about_people):
        say(line)
