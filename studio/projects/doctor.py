"""The doctor: what is wrong with a data set, in sentences with the pictures they are about, its numbers, and what to set for it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from studio.projects import caption_checks, picture_checks, set_checks
from studio.projects.advice import Advice, recommend
from studio.projects.case import Aim, Case, Check, Finding, Surroundings
from studio.projects.facts import Item
from studio.projects.statistics import Statistics, statistics

__all__ = ["CHECKS", "Aim", "Finding", "Report", "Surroundings", "as_json", "as_text", "examine_set"]

CHECKS: tuple[Check, ...] = (*set_checks.CHECKS, *picture_checks.CHECKS, *caption_checks.CHECKS)
"""Everything that is looked for, in the order it is shown within a severity."""
SEVERITIES = ("problem", "warning", "hint")
NO_LABELS: Mapping[str, str] = MappingProxyType({})
NAMED = 8
"""Pictures that the text form names for each finding."""


@dataclass(frozen=True)
class Report:
    """What the doctor says."""

    findings: tuple[Finding, ...]
    """Worst first."""
    ignored: tuple[Finding, ...]
    """Those that a person does not want to see."""
    statistics: Statistics
    advice: Advice | None
    """None without a picture to learn from."""

    @property
    def problems(self) -> int:
        """How many findings spoil the training; a command ends well when there is none."""
        return sum(finding.severity == "problem" for finding in self.findings)


def examine_set(items: Sequence[Item], aim: Aim, around: Surroundings | None = None, ignored: Collection[str] = ()) -> Report:
    """Look at pictures through every check; `ignored` holds keys of findings. Raises InputError for a method that is not known."""
    case = Case(items, aim, around or Surroundings())
    found = [finding for check in CHECKS if (finding := check.finding(case)) is not None]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(
        tuple(finding for finding in found if finding.key not in ignored),
        tuple(finding for finding in found if finding.key in ignored),
        statistics(case),
        _advice(case),
    )


def _advice(case: Case) -> Advice | None:
    """What to set for the pictures that are learned."""
    if not case.learned:
        return None
    faces = sum(bool(item.facts and item.facts.faces) for item in case.learned)
    captioned = sum(bool(item.caption.strip()) for item in case.learned)
    images = sum(item.choices.repeats for item in case.learned)
    return recommend(len(case.learned), case.aim.method, case.aim.family, captioned * 2 > len(case.learned), faces * 2 > len(case.learned), images)


def as_json(report: Report, labels: Mapping[str, str] = NO_LABELS) -> dict[str, Any]:
    """A report for pages and programs; `labels` says what the button of each fix is called."""
    everything = [(finding, False) for finding in report.findings] + [(finding, True) for finding in report.ignored]
    return {
        "problems": report.problems,
        "findings": [_finding(finding, ignored, labels) for finding, ignored in everything],
        "unexamined": report.statistics.states["not_examined"],
        "statistics": [list(row) for row in report.statistics.rows()],
        "figures": report.statistics.as_json(),
        "advice": report.advice and _advised(report.advice, report.statistics.states["learned"]),
    }


def _finding(finding: Finding, ignored: bool, labels: Mapping[str, str]) -> dict[str, Any]:
    """One finding."""
    return {
        "id": finding.id,
        "key": finding.key,
        "severity": finding.severity,
        "text": finding.text,
        "values": finding.values,
        "sentence": finding.sentence,
        "items": list(finding.items),
        "groups": [list(group) for group in finding.groups],
        "fix": finding.fix,
        "fix_label": labels.get(finding.fix, "") if finding.fix else "",
        "ignored": ignored,
    }


def _advised(advice: Advice, count: int) -> dict[str, Any]:
    """The advice for so many pictures."""
    reasons = [{"text": reason.text, "values": reason.values, "sentence": reason.sentence} for reason in advice.reasons]
    values = {"vectors": advice.vectors, "steps": advice.steps, "rate": advice.learning_rate, "batch": advice.batch, "accumulation": advice.accumulation, "family": advice.family}
    return {"count": count, **values, "reasons": reasons}


def as_text(report: Report) -> str:
    """A report for a terminal."""
    lines = []
    for finding in report.findings:
        lines.append(f"{finding.severity.upper()}: {finding.sentence}")
        if finding.items:
            more = len(finding.items) - NAMED
            lines.append(f"    {', '.join(finding.items[:NAMED])}{f' and {more} more' if more > 0 else ''}")
    lines += [] if report.findings else ["Nothing is wrong with this data set."]
    lines += [f"{len(report.ignored)} ignored."] if report.ignored else []
    width = max(len(label) for label, _ in report.statistics.rows())
    lines += ["", *(f"{label:<{width}}  {value}" for label, value in report.statistics.rows())]
    if report.advice:
        advice = report.advice
        batch = f", batch {advice.batch} x {advice.accumulation}, on {advice.family}"
        vectors = f"{advice.vectors} vectors, " if advice.vectors else ""
        lines += [
            "",
            f"Advice for {report.statistics.states['learned']} pictures: {vectors}{advice.steps} steps, learning rate {advice.learning_rate}{batch}.",
        ]
        lines += [f"    {reason.sentence}" for reason in advice.reasons]
    return "\n".join(lines) + "\n"
