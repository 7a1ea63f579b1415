"""The loop over eras against what the same compute buys elsewhere, on the zoo.

    python scripts/bench_evolution.py FOLDER [--zoos 0 1 2] [--eras 10] [--trials 30] [--items 1000]
        [--sampler auto] [--arms NAME ...]

Parents math and lang; addition and reading in language B; preference items from the train split. Arms of
the loop: a lax gate; a strict gate; no population control (nor immigrants, mates and random elites); SFT
for the mutations; mutation settings that evolve too. The other arms get the compute of the first arm: (a)
search over the two parents alone, (b) DPO or SFT of the better parent, repeated while the scores rise, (c)
the same for the parents' uniform average, (d) the parents' ensemble (log-probabilities averaged at each
token; no training, two models for each answer). Compute is counted in token passes: 1 for a token forward,
2 for a token backward. The winner of an arm has the best mean of both objectives on search items; the first
table gives the winner's held-out scores, and the passes and seconds of the arm. The other tables give, for
each era of the loop's arms, best mean, diversity, the mutants' share of the front's hypervolume, disk,
memory and seconds. Prints Markdown. The folder keeps the studies and the figures: the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
import yaml
from markdown_tables import table_head, table_row
from transformers import AutoModelForCausalLM, AutoTokenizer
from zoo_studies import ENGINE, TASKS, cut_task, objectives

from recipesearch.analysis.credit import hypervolume_by_parent
from recipesearch.analysis.generations import generations
from recipesearch.checking.members import open_preflight
from recipesearch.checking.preflight import preflight
from recipesearch.checking.worker_order import worker_order
from recipesearch.files import cache_dir
from recipesearch.mutation.breeder import Breeder, Elite, Means, recipes_of
from recipesearch.mutation.training import train
from recipesearch.mutation.training_order import Trained, TrainingOrder
from recipesearch.plan import Plan, load_plans
from recipesearch.recipe import Parent, Recipe
from recipesearch.search.evolve import evolve
from recipesearch.search.run import run
from recipesearch.space.seeds import seeds
from recipesearch.study.results import open_results
from recipesearch.study.storage import Database
from recipesearch.workers.order import WorkerOrder
from recipesearch.workers.worker import Worker
from recipesearch.zoo import build_zoo

SEARCH_ITEMS = 600  # of both tasks
TOKENS = 10  # of an item: a prompt of seven, an answer of three
KEPT, LOOKS = 64, 12  # items and rounds that a training's watch reads, with and without the adapter
PATIENCE = 5  # rounds of tuning without a better score
LAX: dict[str, Any] = {"significance": 0.5}  # of the gate: small gains pass
CONTROLLED: dict[str, Any] = {**LAX, "control": "niching", "immigrants": 4, "mates": 2}
LOOSE: dict[str, Any] = {**LAX, "control": "none", "immigrants": 0, "mates": 0, "random": 0.0}
SFT: dict[str, Any] = {"kind": "sft", "learning_rate": 3e-4, "steps": 200}
LOOPS = {
    "loop": CONTROLLED,
    "loop, strict gate": {**CONTROLLED, "significance": 0.05},
    "loop without control": LOOSE,
    "loop, SFT": {**CONTROLLED, **SFT},
    "loop, co-evolved": {**CONTROLLED, "perturb": 0.5},
}


class Count:
    """Token passes so far."""

    def __init__(self) -> None:
        self.passes = 0

    def worker(self, items: int) -> Callable[[WorkerOrder], Worker]:
        """Opens workers in this process whose scores and mining are counted."""
        count = self

        class Counted(Worker):
            def score(self, recipe: Recipe, held_out: bool = False, part: Any = None) -> Any:
                count.passes += 0 if held_out else items * TOKENS
                return super().score(recipe, held_out, part)

            def mine(self, recipe: Recipe, tasks: Sequence[str], wanted: Any) -> Any:
                lm: Any = self._engine.lm
                ask = lm.generate_until

                def counted(requests: Sequence[Any], **options: Any) -> Any:
                    count.passes += len(requests) * TOKENS
                    return ask(requests, **options)

                lm.generate_until = counted
                try:
                    return super().mine(recipe, tasks, wanted)
                finally:
                    del lm.generate_until

        return Counted

    def train(self, order: TrainingOrder) -> Trained:
        """Trains in this process; DPO's reference model runs forward too."""
        trained = train(order)
        each = 4 if order.plan.kind == "dpo" else 3
        self.passes += trained.tokens * each + 2 * LOOKS * KEPT * TOKENS
        return trained


class Bench:
    """One zoo: its cut tasks, its plans, and the figures of each arm."""

    def __init__(self, folder: Path, zoo: int, arguments: argparse.Namespace) -> None:
        self._folder, self._zoo, self._arguments = folder / f"zoo{zoo}", zoo, arguments
        self._folder.mkdir(parents=True, exist_ok=True)
        self._tasks = build_zoo(zoo) / "tasks"
        for name in TASKS:
            cut_task(self._tasks / f"{name}_preference.yaml", self._folder, arguments.items)
        self._kept = self._folder / "measured.json"
        self.measured: dict[str, Any] = json.loads(self._kept.read_text()) if self._kept.exists() else {}

    def measure(self, arm: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """An arm's figures, from an earlier run if there was one."""
        if arm not in self.measured:
            begun = time.monotonic()
            self.measured[arm] = {**work(), "seconds": time.monotonic() - begun}
            self._kept.write_text(json.dumps(self.measured, indent=1))
            logging.warning(
                "zoo %d, %s: %s", self._zoo, arm, {k: v for k, v in self.measured[arm].items() if k != "eras"}
            )
        return self.measured[arm]  # type: ignore[no-any-return]

    def plans(self, name: str, mutation: Mapping[str, Any], trials: int) -> tuple[Plan, ...]:
        """Writes a study file over this zoo, and reads the plans back."""
        raw = {
            "name": name.replace(" ", "-").replace(",", ""),
            "parents": {name: f"zoo@{self._zoo}:{name}" for name in ("math", "lang")},
            "space": {"weights": {"methods": ["linear"], "layer_groups": 4, "own": ["embed", "head"]}},
            "objectives": objectives(str(self._tasks / f"{t}_search.yaml") for t in TASKS),
            "held_out": [str(self._tasks / f"{t}_held_out.yaml") for t in TASKS],
            "preference": [f"{t}_preference.yaml" for t in TASKS],
            "search": {"sampler": self._arguments.sampler, "trials": trials, "seed": self._zoo},
            "engine": {**ENGINE, "batch_size": 600},
            "mutation": {"samples": 2, **mutation},
        }
        path = self._folder / f"{raw['name']}.yaml"
        path.write_text(yaml.safe_dump(raw))
        return load_plans(path)

    def loop(self, name: str) -> dict[str, Any]:
        """The loop over eras, and the figures of each era."""
        plans = self.plans(name, {**LOOPS[name], "eras": self._arguments.eras}, self._arguments.trials)
        count, eras = Count(), []
        begun, current = time.monotonic(), str(plans[0].era)

        def watch(progress: Any) -> None:
            nonlocal begun, current
            if progress.era != current:
                eras.append(self._costs(begun))
                begun, current = time.monotonic(), progress.era

        evolve(plans, watch, self._open(count), count.train)
        eras.append(self._costs(begun))
        for plan, era in zip(plans, eras, strict=True):
            era |= self._described(plan)
        best = max((self._best(plan) for plan in plans), key=lambda found: found[0])
        return {"passes": count.passes, "eras": eras, **self._held_out(*best[1:])}

    def search(self, passes: int) -> dict[str, Any]:
        """Search over the parents alone."""
        count = Count()
        (plan,) = self.plans("search", {}, passes // (SEARCH_ITEMS * TOKENS))
        run(plan.model_copy(update={"held_out": ()}), open_worker=self._open(count))
        return {"passes": count.passes, **self._held_out(*self._best(plan)[1:])}

    def tune(self, passes: int, start: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """One model tuned again and again on its mistakes, until the compute is spent or ``PATIENCE`` rounds
        have passed without a better score. The winner is the best of all rounds on search items."""
        (plan,) = self.plans(f"{start} {settings.get('kind', 'dpo')}", settings, 10)
        assert plan.mutation is not None
        count = Count()
        breeder = Breeder(plan, Means(Database(plan.storage_url), self._open(count), count.train))
        parent = self._start(plan, start)
        best, rounds = (-1.0, parent, 0), 0
        while True:
            alone = recipes_of(parent, "float32")[-1]
            with self._open(count)(_alone(plan, parent)) as worker:
                mean = _mean(worker.score(alone)[0])
                best = max(best, (mean, parent, rounds), key=lambda found: found[0])
                if count.passes >= passes or rounds - best[2] >= PATIENCE:
                    return {
                        "passes": count.passes,
                        "rounds": f"{best[2]} of {rounds}",
                        **self._held_out(plan, best[1]),
                    }
                mutation = breeder.mutation(Elite(Parent(alone.digest, alone), None, start), plan.mutation)
                mined = breeder.mine(mutation, worker)
            parent, rounds = breeder.trained(mutation, mined), rounds + 1

    def ensemble(self) -> dict[str, Any]:
        """Greedy answers of the parents' averaged log-probabilities; two models at each token."""
        models = [
            AutoModelForCausalLM.from_pretrained(build_zoo(self._zoo) / name).eval()
            for name in ("math", "lang")
        ]
        tokenizer = AutoTokenizer.from_pretrained(build_zoo(self._zoo) / "math")
        return {
            "passes": 0,
            "held_out": [_together(models, tokenizer, self._tasks / f"{t}_held_out.jsonl") for t in TASKS],
        }

    # -- of one arm

    def _open(self, count: Count) -> Callable[[WorkerOrder], Worker]:
        return count.worker(SEARCH_ITEMS)

    def _start(self, plan: Plan, start: str) -> Parent:
        """The better parent by its mean on search items, or the parents' average."""
        checked = preflight(plan)
        if start == "average":
            recipe = dict(seeds(checked.space))["uniform average"]
            found = checked.space.express(recipe)
            return Parent(found.digest, found)
        with Worker(worker_order(checked)) as worker:
            means = {
                p: _mean(worker.score(recipes_of(p, "float32")[-1])[0]) for p in checked.pool.parents.values()
            }
        return max(means, key=means.__getitem__)

    def _best(self, plan: Plan) -> tuple[float, Plan, Parent]:
        """The recipe with the best mean of the objectives on search items."""
        database = Database(plan.storage_url)
        stored, results = open_results(database, plan.name)
        checked = open_preflight(stored, database)
        row = max(results.scored, key=lambda row: fmean(m.value for m in row.values or ()))
        recipe = checked.space.express(row.genome)
        return fmean(m.value for m in row.values or ()), stored, Parent(recipe.digest, recipe)

    def _held_out(self, plan: Plan, winner: Parent) -> dict[str, Any]:
        held_out = tuple(str(self._tasks / f"{t}_held_out.yaml") for t in TASKS)
        goals = plan.model_copy(update={"held_out": held_out}).held_out_goals
        with Worker(replace(_alone(plan, winner), held_out=goals)) as worker:
            alone = recipes_of(winner, "float32")[-1]
            found = [
                [s.metrics["exact_match"].value for s in worker.score(alone, held)[0]]
                for held in (False, True)
            ]
        return {"search": found[0], "held_out": found[1]}

    def _costs(self, begun: float) -> dict[str, Any]:
        seconds = time.monotonic() - begun
        database = sum(f.stat().st_size for f in self._folder.glob("*.db*"))
        bred = sum(f.stat().st_size for f in self._folder.glob("*.parents/**/*") if f.is_file())
        models = [folder for folder in (cache_dir() / "models").iterdir() if folder.is_dir()]
        built = sum(f.stat().st_size for folder in models for f in folder.iterdir())
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        return {"s": seconds, "database": database, "bred": bred, "built": built, "memory": memory}

    def _described(self, plan: Plan) -> dict[str, Any]:
        database = Database(plan.storage_url)
        stored, results = open_results(database, plan.name)
        checked = open_preflight(stored, database)
        history = generations(results, checked.space)
        shares = hypervolume_by_parent(results, checked.space)
        return {
            "best": self._best(plan)[0],
            "parents": list(stored.parents),
            "mutants": sum(share for name, share in shares.items() if name.endswith("m")),
            "genotypic": history[-1].genotypic,
            "behavioural": history[-1].behavioural,
            "front": len(results.front),
        }


def _alone(plan: Plan, parent: Parent) -> WorkerOrder:
    """A worker over one parent, with the plan's engine and objectives."""
    return WorkerOrder(plan.name, plan.engine, (parent,), parent, plan.goals)


def _mean(scores: Sequence[Any]) -> float:
    return fmean(score.metrics["exact_match"].value for score in scores)


@torch.no_grad()
def _together(models: Sequence[Any], tokenizer: Any, data: Path) -> float:
    """The share of right answers, as the task counts them."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    tokens = torch.tensor([tokenizer(row["prompt"]).input_ids for row in rows])
    length = tokens.shape[1]
    for _ in range(3):
        mean = torch.stack([torch.log_softmax(m(tokens).logits[:, -1], -1) for m in models]).mean(0)
        tokens = torch.cat([tokens, mean.argmax(-1, keepdim=True)], 1)
    answers = tokenizer.batch_decode(tokens[:, length:])
    return fmean(a.partition("$")[0] == row["answer"] for a, row in zip(answers, rows, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--zoos", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--eras", type=int, default=10)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--arms", nargs="+", default=None, help="the first loop, and only these arms")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("recipesearch").setLevel(logging.ERROR)
    found = [_measured(Bench(arguments.folder, zoo, arguments), arguments.arms) for zoo in arguments.zoos]
    _print_arms(found)
    for loop in [arm for arm in found[0] if arm in LOOPS]:
        _print_eras(loop, [arms[loop]["eras"] for arms in found])


def _measured(bench: Bench, wanted: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """The figures of the first loop, and of all other arms or the wanted ones."""
    arms = {"loop": bench.measure("loop", lambda: bench.loop("loop"))}
    for arm, work in _others(bench, arms["loop"]["passes"]).items():
        if wanted is None or arm in wanted:
            arms[arm] = bench.measure(arm, work)
    return arms


def _others(bench: Bench, passes: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """The arms beside the first loop, which spends ``passes``."""
    found: dict[str, Callable[[], dict[str, Any]]] = {
        name: partial(bench.loop, name) for name in LOOPS if name != "loop"
    }
    found["search alone"] = partial(bench.search, passes)
    for start in ("best parent", "average"):
        for kind, settings in (("DPO", {}), ("SFT", SFT)):
            found[f"{kind} of the {start}"] = partial(bench.tune, passes, start, settings)
    return {**found, "ensemble": bench.ensemble}


def _print_arms(found: Sequence[Mapping[str, Any]]) -> None:
    print(table_head("arm", *TASKS, "mean", "each zoo's mean", "passes", "seconds"))
    for arm in found[0]:
        rows = [arms[arm] for arms in found]
        columns = [[row["held_out"][place] for row in rows] for place in range(len(TASKS))]
        means = [fmean(row["held_out"]) for row in rows]
        cells = [*map(_spread, columns), _spread(means), " ".join(f"{mean:.2f}" for mean in means)]
        passes, seconds = (fmean(row[key] for row in rows) for key in ("passes", "seconds"))
        print(table_row(arm, *cells, f"{passes:,.0f}", f"{seconds:.0f}"))


def _print_eras(loop: str, runs: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    keys = (
        "best",
        "behavioural",
        "genotypic",
        "mutants",
        "front",
        "s",
        "memory",
        "database",
        "bred",
        "built",
    )
    print(f"\n{loop}:\n\n{table_head('era', *keys)}")
    for number, eras in enumerate(zip(*runs, strict=True), 1):
        values = [fmean(era[key] or 0.0 for era in eras) for key in keys]
        shown = [f"{v / 1e6:.1f} MB" if v > 10_000 else f"{v:.2f}" for v in values]
        print(table_row(number, *shown))


def _spread(values: Sequence[float]) -> str:
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{fmean(values):.3f} ± {error:.3f}"


if __name__ == "__main__":
    main()
