"""What --help says."""

MAIN = """\
autoprune searches for policies that prune the visual tokens of vision-language models.

  autoprune study        find good settings of a policy: many trials, and the front of accuracy against cost
  autoprune evaluate     measure one pruner: accuracy per kind of question, cost, speed
  autoprune compare      draw the fronts of several studies into one picture
  autoprune new-policy   write the two files of a policy of your own, to fill in
  autoprune train        train the embedded model from scratch

Everything runs on a small trained model that comes with the package; no GPU and no download is needed.
What runs is said by KEY=VALUE words after the command:

  policy=fixed                which policy (how many visual tokens each layer keeps)
  budget.flops_ratio=0.35     how much of the unpruned prefill may be spent
  model=path model.path=DIR   another checkpoint

Begin with:

  autoprune study experiment=quick
  autoprune evaluate policy=fixed budget.flops_ratio=0.35

Each command explains itself: autoprune COMMAND --help
"""

_CONFIG = """
Words such as policy=fixed choose a file of a group (conf/policy/fixed.yaml); words such as
pruner.policy.layer=3 change one line. The groups: model, task, policy, budget, scorer, complexity, recovery,
search, space, tracking, experiment. A name that does not exist is answered with the ones that do.
`--cfg job` prints all lines as they stand."""

VERBS = {
    "study": """\
Search a policy's settings: each trial prunes the model in one way and answers the task's questions. The study
keeps the trials that nothing beats in both cost and accuracy (the Pareto front), compares the best of them with
other policies on fresh questions, and writes tables, a picture and the tuned pruners to runs/NAME.

Running the same command again goes on where it stopped (also after Ctrl-C), or prints the result.
"""
    + _CONFIG,
    "evaluate": """\
Run one pruner over a task and print accuracy per kind of question with 95 % intervals, FLOPs ratio, mean visual
tokens per layer and samples per second, with the unpruned model beside it.
"""
    + _CONFIG,
    "compare": """\
Overlay the Pareto fronts of several studies in one picture, and print for each the hypervolume (the area under
the front, between score 0 and FLOPs ratio 1) and the best score within fixed FLOPs ratios.""",
    "train": """\
Train the embedded model from scratch and save it as a checkpoint folder. Takes the better part of an hour on two
cores. A model trained by you is used with model=path model.path=DIR.""",
    "new-policy": """\
Write a policy that works, for you to change: DIR/NAME.py and DIR/conf/policy/NAME.yaml. DIR is a Python package
in the current folder; it is made if it does not exist.""",
}

EXAMPLES = {
    "study": """\
examples:
  autoprune study                                          the default study
  autoprune study experiment=quick                         the whole line in about a minute
  autoprune study policy=fixed study=fastv_space           another policy, under a name of your own
  autoprune study search.n_trials=300                      the same study, made longer
  autoprune study budget.flops_ratio=0.35 study=tight      a tighter bound
  autoprune study policy=mine --config-dir my_policies/conf""",
    "evaluate": """\
examples:
  autoprune evaluate policy=fixed budget.flops_ratio=0.35
  autoprune evaluate policy=layerwise scorer=random task.split=report task.per_kind=100
  autoprune evaluate --pruner runs/logistic_adaptive/tuned/trial-12.yaml --no-baseline""",
    "compare": """\
examples:
  autoprune compare runs/logistic_adaptive runs/fixed
  autoprune compare runs/* --split report --at 0.5 0.25 --out fronts.png""",
    "train": """\
examples:
  autoprune train --out my_model --seed 1""",
    "new-policy": """\
examples:
  autoprune new-policy my_staircase
  pytest tests/test_policies.py --policies my_policies
  autoprune study policy=my_staircase --config-dir my_policies/conf""",
}
