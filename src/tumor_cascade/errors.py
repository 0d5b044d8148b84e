"""Errors that a user can act on, each with the exit code of its kind.

An error says what is wrong with which value, where, the rule, and what to do. Anything else that escapes, but for a
disk that cannot be written, is a bug: exit code 1 and a traceback.
"""

from collections.abc import Sequence


class TumorCascadeError(Exception):
    """Base of all errors shown without a traceback."""

    exit_code = 1


class ParamsError(TumorCascadeError):
    """A wrong parameter, flag or combination of them."""

    exit_code = 2


class DataError(TumorCascadeError):
    """Input data or an artifact that breaks its contract.

    Args:
        violations: One line each: what is wrong with which file or value, the rule, the remedy.
        summary: Optional headline above the list.

    Its text shows the first `MAX_SHOWN` of them: thousands, a line per file, would hide what they have in common.
    """

    exit_code = 3
    MAX_SHOWN = 40

    def __init__(self, violations: str | Sequence[str], summary: str = "") -> None:
        self.violations = [violations] if isinstance(violations, str) else list(violations)
        self.summary = summary
        lines = [summary] if summary else []
        shown = [f"- {v}" if summary else v for v in self.violations[: self.MAX_SHOWN]]
        rest = len(self.violations) - len(shown)
        super().__init__("\n".join([*lines, *shown, *([f"and {rest:,} more."] if rest else [])]))


class PromotionRefused(TumorCascadeError):  # noqa: N818 - a verdict, not a fault
    """The promotion gate said no and the caller asked for that to be fatal."""

    exit_code = 4
