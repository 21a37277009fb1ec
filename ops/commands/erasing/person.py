"""A person is erased from every model of a workspace, and what is left is searched for."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from perennial.continual.errors import ConfigurationError, Refused
from perennial.continual.jobs.process import Progress
from perennial.continual.preparation import is_spelling_of, key_spellings, shown
from perennial.ops.commands.erasing.copies import forget_embeddings
from perennial.ops.commands.erasing.erasure import Erasure, Plan, erase, plan_erasure
from perennial.ops.commands.erasing.search import SearchReport, Sought, Trace, search
from perennial.ops.parts import Parts
from perennial.ops.store.traffic_of import traffic_of

IN_SUMS = "rows in the sums of a removed model"

__all__ = ["IN_SUMS", "PersonErasure", "PersonPlan", "erase_person", "plan_person"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonErasure:
    """What was done in each model, and what a search of the whole workspace still found."""

    models: Mapping[str, Erasure]
    search: SearchReport
    complete: bool  # nothing was found left


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonPlan:
    """What would be found and done in each model; nothing was changed."""

    dry_run: Literal[True] = True
    models: Mapping[str, Plan]


def plan_person(parts: Parts, key: str, model: str | None = None) -> PersonPlan:
    """What `erase_person` would find and do in each model; changes nothing."""
    names = _models(parts, model)
    spellings = _spellings(parts, names, key)
    return PersonPlan(
        models={name: _joined_plans([plan_erasure(parts, name, each) for each in spellings]) for name in names}
    )


def erase_person(
    parts: Parts, key: str, *, actor: str, model: str | None = None, on_progress: Progress = lambda _: None
) -> PersonErasure:
    """Erase the key from every model of the workspace, or from one, and search for what is left.

    Repeating it is harmless, and finishes what a killed call began. Without `model` the key's rows from before are
    also refused by models that are added later.

    Raises:
        ConfigurationError: the key is empty, or a model's settings cannot be used.
        Refused: a cycle, probation aside, or another erasure is under way in one of the models.
        And what `erase` raises; models before the one that failed are done, and the next call goes on.
    """
    names = _models(parts, model)
    for name in names:
        if (cycle := parts.ledger.active_cycle(name)) is not None and cycle.hinders_erasure:
            raise Refused(_busy(name, cycle.id, cycle.state))
    done: dict[str, Erasure] = {}
    spellings = _spellings(parts, names, key)
    sought, notes = Sought(keys=frozenset(spellings)), []
    for spelling in spellings:
        for name in names:
            on_stage = lambda stage, name=name: on_progress({**stage, "model": name})  # noqa: E731
            erased, note = erase(parts, name, spelling, actor=actor, every_model=model is None, on_progress=on_stage)
            done[name] = erased if name not in done else _together(done[name], erased)
            notes.append((name, note))
            sought = sought.joined(Sought(keys=frozenset(), prediction_ids=note.prediction_ids, texts=note.every_text))
    forget_embeddings(parts, names, sought.texts)
    on_progress({"stage": "searching for what is left"})
    program = parts.workspace.state / "triton" / "bin" / "tritonserver"  # a copy of what is installed
    report = search(parts, sought, leave_out=[program, *(note.path for _, note in notes)])
    held = [
        Trace(place=str(parts.workspace.bundle(name, version)), kinds=(IN_SUMS,))
        for name, erased in done.items()
        for version in erased.held
    ]
    report = replace(report, left=(*report.left, *held))
    for name, note in notes:
        if not done[name].held:  # what is to be taken out of the sums is known from the note alone
            note.path.unlink(missing_ok=True)
    detail = {"key_digest": parts.ledger.key_digest(key), "left": len(report.left), "files": report.files}
    parts.ledger.audit(actor, "erase.searched", model, detail)
    return PersonErasure(models=done, search=report, complete=not report.left)


def _spellings(parts: Parts, models: Collection[str], key: str) -> tuple[str, ...]:
    """The key as every entrance keeps it, and as earlier releases kept what was sent, outer spaces among it."""
    spellings = key_spellings(key)
    if not spellings:
        raise ConfigurationError(f"key is {shown(key)}; give the caller's key as it was sent with requests and labels")
    kept: set[str] = set()
    for model in models:
        kept |= parts.ledger.keys_holding(model, [spelling.strip() for spelling in spellings])
        kept |= traffic_of(parts.workspace, model).distinct_keys()
    others = sorted(other for other in kept if is_spelling_of(other, key))
    return tuple(dict.fromkeys([*spellings, *others]))


def _models(parts: Parts, model: str | None) -> tuple[str, ...]:
    """The model asked for, or every one that the settings or the ledger know."""
    if model is not None:
        parts.workspace.model(model)
        return (model,)
    names = dict.fromkeys([*parts.settings.models, *(row.name for row in parts.ledger.models())])
    for name in names:
        if name in parts.settings.refused:  # it goes on answering, and nothing of it could be corrected
            parts.workspace.model(name)
    return tuple(names)


def _busy(model: str, cycle: int, state: str) -> str:
    return (
        f"model {model} has cycle {cycle} under way ({state}), whose challenger may have learnt this person's rows; "
        f"wait for its end or abort it (POST /v1/models/{model}/commands/abort), then erase again"
    )


def _together(one: Erasure, other: Erasure) -> Erasure:
    """What was done under two spellings of a key."""
    return Erasure(
        traffic_rows=one.traffic_rows + other.traffic_rows,
        feedback=one.feedback + other.feedback,
        examples=one.examples + other.examples,
        buffer_rows=one.buffer_rows + other.buffer_rows,
        rows_taken_back=one.rows_taken_back + other.rows_taken_back,
        corrected=other.corrected if other.corrected is not None else one.corrected,
        removed=tuple(sorted({*one.removed, *other.removed})),
        tuned=tuple(sorted({*one.tuned, *other.tuned})),
        retraining=other.retraining if other.retraining is not None else one.retraining,
        damaged_files=tuple(sorted({*one.damaged_files, *other.damaged_files})),
        held=tuple(sorted({*one.held, *other.held})),
        remembered=one.remembered + other.remembered,
    )


def _joined_plans(plans: Sequence[Plan]) -> Plan:
    """What would be done under every spelling of a key."""
    return Plan(
        traffic_rows=sum(plan.traffic_rows for plan in plans),
        feedback=sum(plan.feedback for plan in plans),
        examples=sum(plan.examples for plan in plans),
        buffer_rows=sum(plan.buffer_rows for plan in plans),
        learnt_by=tuple(sorted({version for plan in plans for version in plan.learnt_by})),
        in_sums=tuple(sorted({version for plan in plans for version in plan.in_sums})),
        tuned=tuple(sorted({version for plan in plans for version in plan.tuned})),
        damaged_files=tuple(sorted({name for plan in plans for name in plan.damaged_files})),
        remembered=sum(plan.remembered for plan in plans),
    )
