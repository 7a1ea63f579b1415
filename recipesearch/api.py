"""The functions that ``import recipesearch`` offers, over plain values. The command line is built on them.

A *study* argument is a study file's path, a dict with the same keys, or the plans that ``load`` returns.
Functions that read a stored study also accept a SQLite file or a storage URL, with ``#NAME`` for one of
several studies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import PlanError, nearest
from .plan import Plan, Settings, by_key, load_plans, read_plans
from .report.study_view import StudyView as StudyView
from .study.chain import begun
from .study.results import open_results
from .study.storage import Database

if TYPE_CHECKING:
    from .exporting.verify import Proof
    from .mutation.by_hand import Mutated
    from .search.run import Progress

Plans = tuple[Plan, ...]
StudyLike = str | Path | Mapping[str, Any] | Plans


def load(study: StudyLike, settings: Settings = (), folder: Path | str = ".") -> Plans:
    """Reads and checks a study; returns one plan for each era.

    ``settings`` override keys, as ``{"search.trials": 50}`` or ``["search.trials=50"]``. Relative paths in a
    dict start at ``folder``, relative paths in a file at the file's folder. In a dict an objective's
    ``function`` may be a Python function from an importable module. Raises PlanError.
    """
    if isinstance(study, tuple):
        return study
    if isinstance(study, Mapping):
        return read_plans(_named_functions(study), Path(folder).absolute(), "the study", settings)
    return load_plans(Path(study), settings)


def open(study: StudyLike) -> StudyView:
    """Opens a stored study: by default the last era that has started, or the era of ``FILE#ERA``.

    Raises PlanError for an unknown era or name, StudyError if nothing has been run yet.
    """
    if not isinstance(study, str | Path):
        return _open_planned(load(study))
    text = str(study)
    place, mark, name = text.rpartition("#")
    if not mark or Path(text).exists():
        place, name = text, ""
    if Path(place).suffix in (".yaml", ".yml"):
        return _open_planned(load_plans(Path(place)), name or None)
    url = place if "://" in place else f"sqlite:///{Path(place).absolute()}"
    return StudyView(*open_results(Database(url), name or None))


def check(study: StudyLike) -> dict[str, Any]:
    """The counts, memory and disk that a study needs (sizes in bytes); for several eras, by era.

    Raises PlanError, RefusedInput or StudyError for whatever would stop the study. Merges nothing.
    """
    from .checking.needs import needs_of_all

    plans = load(study)
    needs = list(needs_of_all(plans))
    return needs[0] if len(needs) == 1 else {str(plan.era): n for plan, n in zip(plans, needs, strict=True)}


def run(
    study: StudyLike, progress: Callable[[Progress], None] | None = None, ray: str | None = None
) -> StudyView:
    """Creates or resumes a study and brings every era to ``search.trials`` scored recipes.

    ``progress`` is called after each candidate. With ``ray``, a Ray cluster's address, workers run on the
    cluster's machines. After an interruption the same call continues. Raises PlanError and RefusedInput
    before any heavy work, StudyError for a problem that the user has to fix.
    """
    from .search.evolve import evolve
    from .search.run import run_eras
    from .workers.ray_cluster import RayCluster

    plans = load(study)
    how: dict[str, Any] = {"open_worker": RayCluster(ray)} if ray else {}
    results = (evolve if plans[0].evolves else run_eras)(plans, progress or (lambda state: None), **how)
    return _open_planned(plans, database=results.database)


def mutate(
    study: StudyLike | StudyView,
    trial: int,
    settings: Settings = (),
    preference: Sequence[str] = (),
) -> Mutated:
    """Fine-tunes a trial's model, by DPO or SFT, into a new parent; compares both models on the search items.

    ``settings`` override keys of ``mutation``; ``preference`` replaces the study file's. Raises PlanError and
    RefusedInput for settings and items that cannot be used, StudyError if the training fails.
    """
    return mutate_each(study, trial, [settings], preference)[0]


def mutate_each(
    study: StudyLike | StudyView, trial: int, variations: Sequence[Settings], preference: Sequence[str] = ()
) -> list[Mutated]:
    """As ``mutate``, with one mutant for each variation of the settings; equal pairs are mined once."""
    from .mutation.by_hand import mutate_trial, mutation_plan

    view = _view(study)
    stated = _stated(study) or view.plan
    plans = [mutation_plan(view.plan, stated, by_key(one), preference) for one in variations]
    return mutate_trial(view.results, plans, trial)


def export(
    study: StudyLike | StudyView,
    folder: Path | str,
    trial: int | None = None,
    best: str | None = None,
    *,
    portable: bool = False,
) -> Path:
    """Writes a recipe as mergekit YAML with provenance and a model card; returns the recipe's path.

    The recipe is that of a ``trial``, the ``best`` in one objective or, by default, the knee of the front.
    With ``portable`` the recipe names parents as in the study file instead of by absolute path.
    """
    from .checking.members import open_preflight
    from .exporting.export import export as write

    view = _view(study)
    checked = open_preflight(view.plan, view.results.database)
    return write(checked, view.results, view.chosen(trial, best), Path(folder), portable=portable)


def verify(recipe: Path | str) -> Proof:
    """Rebuilds a recipe with stock mergekit, compares every tensor, and scores the rebuilt model again.

    Raises VerificationFailed with the first difference.
    """
    from .exporting.verify import verify as prove

    return prove(Path(recipe))


def merge(recipe: Path | str, folder: Path | str) -> Path:
    """Builds a recipe's model as a folder of safetensors and returns the folder."""
    from .exporting.write_model import write_model

    return write_model(Path(recipe), Path(folder))


def _view(study: StudyLike | StudyView) -> StudyView:
    return study if isinstance(study, StudyView) else open(study)


def _stated(study: StudyLike | StudyView) -> Plan | None:
    """The first plan of the study file, if the study is given by its file or its plans."""
    if isinstance(study, StudyView):
        return None
    if not isinstance(study, str | Path):
        return load(study)[0]
    place = str(study).rpartition("#")[0] or str(study)
    return load_plans(Path(place))[0] if Path(place).suffix in (".yaml", ".yml") else None


def _open_planned(plans: Plans, era: str | None = None, database: Database | None = None) -> StudyView:
    """One era's study, by default of the last started era. Relative paths start at the plan's folder."""
    if era is not None:
        names = [str(plan.era) for plan in plans if plan.era]
        if era not in names:
            raise PlanError(f"the study file has no era '{era}': {nearest(era, names or ['no eras at all'])}")
        plans = tuple(plan for plan in plans if plan.era == era)
    database = database or Database(plans[0].storage_url)
    plan = next((plan for plan in reversed(plans[1:]) if begun(database, plan)), plans[0])
    stored, results = open_results(database, plan.name)
    return StudyView(stored.model_copy(update={"folder": plan.folder}), results)


def _named_functions(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The study with objective functions replaced by ``module:name``, which a worker process can import."""
    objectives = raw.get("objectives")
    if not isinstance(objectives, Sequence):
        return dict(raw)
    return {**raw, "objectives": [_named_function(one) for one in objectives]}


def _named_function(objective: Any) -> Any:
    function = objective.get("function") if isinstance(objective, Mapping) else None
    if not callable(function):
        return objective
    module, name = getattr(function, "__module__", "__main__"), getattr(function, "__qualname__", "")
    if module == "__main__" or not name.isidentifier():
        raise PlanError(
            f"objective function '{name or function}' cannot be imported by a worker process: define the "
            "function at the top of a .py file and import it from there"
        )
    return {**objective, "function": f"{module}:{name}"}
