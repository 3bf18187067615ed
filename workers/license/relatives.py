"""Which keys of a batch concern a command of the Partner API: named ones, parents, children, holders of a value.

A batch may read thousands of keys for all of its commands together; a case gets those that matter to it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from shared.contracts.identifiers import LicenseId
from shared.domain.effects import KeyQuestions
from shared.domain.key_details import KeyDetails


@dataclass(slots=True)
class Relatives:
    """Who is related to whom, as the batch has left it so far."""

    keys: dict[LicenseId, KeyDetails] = field(default_factory=dict)
    _by_key_id: dict[int, LicenseId] = field(default_factory=dict)
    _by_code: dict[str, LicenseId] = field(default_factory=dict)
    _children: dict[LicenseId, set[LicenseId]] = field(default_factory=dict)

    def note(self, license_id: LicenseId, key: KeyDetails) -> None:
        """Take in what a key is now."""
        before = self.keys.get(license_id)
        if before is not None and before.parent is not None:
            self._children[before.parent.license_id].discard(license_id)
        if key.parent is not None:
            self._children.setdefault(key.parent.license_id, set()).add(license_id)
        self.keys[license_id] = key
        self._by_key_id[key.key_id] = license_id
        self._by_code[key.activation_code.upper()] = license_id

    def of(self, asked: KeyQuestions) -> frozenset[LicenseId]:
        """Return the keys that the questions of one command concern."""
        near = set(asked.licenses)
        near.update(self._named(asked))
        for each in tuple(near):
            key = self.keys.get(each)
            if key is not None and key.parent is not None:
                near.add(key.parent.license_id)
        for each in tuple(near):
            near |= self._children.get(each, frozenset())
        if asked.addresses or asked.uids:
            near.update(_holders(self.keys, asked))
        return frozenset(near)

    def _named(self, asked: KeyQuestions) -> Iterator[LicenseId]:
        for key_id in asked.key_ids:
            if key_id in self._by_key_id:
                yield self._by_key_id[key_id]
        for code in asked.activation_codes:
            if code in self._by_code:
                yield self._by_code[code]


def _holders(keys: Mapping[LicenseId, KeyDetails], asked: KeyQuestions) -> Iterator[LicenseId]:
    for license_id, key in keys.items():
        if key.address in asked.addresses or key.uid in asked.uids:
            yield license_id
