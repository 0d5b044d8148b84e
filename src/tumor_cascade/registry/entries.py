"""What stands in the ledger: an entry per verdict; and what a row of entries amounts to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Kind = Literal["promote", "refuse", "abstain", "rollback"]


class Record(BaseModel):
    """Strict and frozen."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", populate_by_name=True)


class VersionRef(Record):
    """A version of `tumor-cascade`: its number in the registry, and what it is made of."""

    version: Annotated[int, Field(ge=1)]
    content_id: Sha256


class PolicyRef(Record):
    """A policy: its name, which says what kind of data it is for, and the SHA-256 of its file."""

    name: str
    sha256: Sha256


class Entry(Record):
    """One verdict.

    Attributes:
        sequence: From 1, without gaps.
        previous: SHA-256 of the bytes of the entry before.
        kind: A verdict on `to`, or the return to it.
        champion: `from` in the file: who was champion when this was decided.
        to: The candidate, or the version that a rollback returned to.
        files: Path in the version -> SHA-256, for every file of `to`.
        evidence: SHA-256 of the decision's JSON; of a rollback none.
        policy: Under which it was decided; of a rollback none.
        data: SHA-256 of the patients that the decision was made on.
        who: Person or job.
        why: In a sentence.
        time: UTC.
        nonce: No two entries have the same bytes, so nobody takes another's entry for their own.
    """

    sequence: Annotated[int, Field(ge=1)]
    previous: Sha256
    kind: Kind
    champion: Annotated[VersionRef | None, Field(alias="from")]
    to: VersionRef
    files: dict[str, Sha256]
    evidence: Sha256 | None
    policy: PolicyRef | None
    data: Sha256 | None
    who: str
    why: str
    time: str
    nonce: str

    def to_bytes(self) -> bytes:
        """Return the bytes of its file."""
        values = self.model_dump(by_alias=True)
        return (json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class State:
    """What the ledger says.

    Attributes:
        history: Versions that became champion one upon the other; the last one is champion. A rollback takes off what
            came after the version it returned to.
        challenger: The last candidate that was judged against today's champion and did not replace it.
        withdrawn: `content_id` of a former champion -> number of the rollback that took it off.
        policy_name: Under which champions are made here; None before the first.
    """

    history: tuple[VersionRef, ...] = ()
    challenger: VersionRef | None = None
    withdrawn: Mapping[str, int] = field(default_factory=dict)
    policy_name: str | None = None

    @property
    def champion(self) -> VersionRef | None:
        """The champion, if there is one."""
        return self.history[-1] if self.history else None

    @property
    def previous(self) -> VersionRef | None:
        """The champion that a rollback returns to."""
        return self.history[-2] if len(self.history) > 1 else None

    def has_been_champion(self, ref: VersionRef) -> bool:
        """Say whether a version is or was champion."""
        return ref in self.history or ref.content_id in self.withdrawn

    def advance(self, entry: Entry) -> "State":
        """Return the state after one more entry."""
        if entry.kind in ("refuse", "abstain"):
            return replace(self, challenger=entry.to)
        kept, gone = self.history, self.history[:0]
        if entry.kind == "rollback":
            places = [place for place, ref in enumerate(self.history[:-1]) if ref == entry.to]
            cut = places[-1] if places else len(self.history) - 1
            kept, gone = self.history[:cut], self.history[cut:]
        withdrawn = {**self.withdrawn, **{ref.content_id: entry.sequence for ref in gone}}
        withdrawn.pop(entry.to.content_id, None)
        policy_name = self.policy_name if entry.policy is None else entry.policy.name
        return State((*kept, entry.to), None, withdrawn, policy_name)
