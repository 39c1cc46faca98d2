"""A proposer of one's own: it climbs from the best settings so far by one step along one dimension at a time.

python examples/hill_climbing.py policy=fixed study=climbed search.n_trials=20

The study measures what it is told, bounds it and keeps it as any study does. A dimension may be the scorer, or what
becomes of the rest at a stage (experiment=operators); spaces with groups (space=policies) are not climbed here.
"""

import random
import sys

import search


def neighbour(settings, space, rng):
    """The settings, one of them moved to the next value of a coarse grid, or to another choice."""
    dimension = rng.choice([one for one in space.dimensions if len(one.grid(9)) > 1])
    others = [value for value in dimension.grid(9) if value != settings[dimension.name]]
    if dimension.type != "categorical":
        others = sorted(others, key=lambda value: abs(value - settings[dimension.name]))[:2]
    return settings | {dimension.name: rng.choice(others)}


def climb(study, steps, seed=0):
    """The best of so many trials within the bound: the higher score, of equal ones the cheaper."""
    rng = random.Random(seed)
    settings = search.ask(study)  # the published defaults, where nothing else waits
    best = search.tell(study, settings)
    for _ in range(steps - 1):
        tried = neighbour(settings, study.space, rng)
        told = search.tell(study, tried)
        if told.feasible and (not best.feasible or (told.score, -told.cost) > (best.score, -best.cost)):
            settings, best = tried, told
    return settings, best


if __name__ == "__main__":
    experiment = search.Experiment.compose(sys.argv[1:])
    with search.open_study(experiment) as opened:
        print(*climb(opened, experiment.typed.search.n_trials), sep="\n")
