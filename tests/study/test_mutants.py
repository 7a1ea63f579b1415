"""The table of mutants: written once, read back as it was."""

from dataclasses import replace

from recipesearch.study.mutants import Mutant, Mutants
from recipesearch.study.storage import Database

RECORD = {"changes": [{"name": "sum", "p": 0.01, "gain": 0.25}], "trained": {"kl": None}, "words": "größer"}
MUTANT = Mutant("key", "study", 7, "source", "digest", True, "better: sum", RECORD)


def test_a_mutant_is_read_back_as_it_was_and_a_decision_stands(database: Database) -> None:
    mutants = Mutants(database)
    assert mutants.get("key") is None
    mutants.add(MUTANT)
    mutants.add(replace(MUTANT, accepted=False, reason="another supervisor was slower"))
    assert Mutants(database).get("key") == MUTANT
    assert mutants.get("other") is None


def test_a_studys_mutants_come_oldest_first_without_other_studies(database: Database) -> None:
    mutants = Mutants(database)
    made = [replace(MUTANT, key=key, trial=None) for key in ("z", "a", "m")]
    for mutant in [*made, replace(MUTANT, key="b", study="other")]:
        mutants.add(mutant)
    assert mutants.of("study") == made
    assert [mutant.key for mutant in mutants.of("other")] == ["b"]
    assert mutants.of("none") == []
