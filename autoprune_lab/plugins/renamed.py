"""Names that code had before it moved, and that files, commands and studies go on saying.

Whatever says `_target_` may be old: a pruner's file, a study's storage, a user's own config. A name of before stays
readable for ever. Where something that such a file may name moves again, its new place goes behind its present name
too, and every old name in the table is led to the new place at once: no name is looked up twice.
"""

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "autoprune_lab.budget.Budget": "autoprune_lab.schedule.budget.Budget",
    "autoprune_lab.budget.OwnCurve": "autoprune_lab.schedule.budget.OwnCurve",
    "autoprune_lab.mean_budget.MeanBudget": "autoprune_lab.schedule.mean_budget.MeanBudget",
    "autoprune_lab.official.OfficialBudget": "autoprune_lab.schedule.official_budget.OfficialBudget",
    "autoprune_lab.complexity.attention_entropy": "autoprune_lab.evidence.complexity.attention_entropy",
    "autoprune_lab.complexity.constant": "autoprune_lab.evidence.complexity.constant",
    "autoprune_lab.complexity.mutual_information": "autoprune_lab.evidence.complexity.mutual_information",
    "autoprune_lab.complexity.mutual_information_official": (
        "autoprune_lab.evidence.complexity.mutual_information_official"
    ),
    "autoprune_lab.scoring.cls_attention": "autoprune_lab.selection.scorers.cls_attention",
    "autoprune_lab.scoring.feature_norm": "autoprune_lab.selection.scorers.feature_norm",
    "autoprune_lab.scoring.last_token_attention": "autoprune_lab.selection.scorers.last_token_attention",
    "autoprune_lab.scoring.random": "autoprune_lab.selection.scorers.random",
    "autoprune_lab.scoring.rater_attention": "autoprune_lab.selection.scorers.rater_attention",
    "autoprune_lab.scoring.text_attention": "autoprune_lab.selection.scorers.text_attention",
    "autoprune_lab.scoring.uniform": "autoprune_lab.selection.scorers.uniform",
    "autoprune_lab.diversity.max_min_diversity": "autoprune_lab.selection.diversity.max_min_diversity",
    "autoprune_lab.diversity.non_duplication": "autoprune_lab.selection.diversity.non_duplication",
    "autoprune_lab.opening.official_opening": "autoprune_lab.selection.official_opening.official_opening",
    "autoprune_lab.views.per_view": "autoprune_lab.selection.per_view.per_view",
    "autoprune_lab.recovery.drop": "autoprune_lab.selection.recovery.drop",
    "autoprune_lab.merging.ClusterMerge": "autoprune_lab.selection.cluster_merge.ClusterMerge",
    "autoprune_lab.contextual.ContextualMerge": "autoprune_lab.selection.contextual_merge.ContextualMerge",
    "autoprune_lab.distinct.KeepDistinct": "autoprune_lab.selection.keep_distinct.KeepDistinct",
    "search.launchers.LocalLauncher": "search.study.launchers.LocalLauncher",
    "search.launchers.SubmititLauncher": "search.study.launchers.SubmititLauncher",
    "search.samplers.grid": "search.study.samplers.grid",
    "search.samplers.qmc": "search.study.samplers.qmc",
    "search.tracking.MlflowTracking": "search.tracking.settings.MlflowTracking",
}


def renamed(node: Any) -> Any:
    """A copy of plain data in which every text that is an old name, or `KEY=` and an old name, says the new one."""
    if isinstance(node, Mapping):
        return {key: renamed(item) for key, item in node.items()}
    if isinstance(node, list | tuple):
        return [renamed(item) for item in node]
    if not isinstance(node, str):
        return node
    key, equals, name = node.rpartition("=")
    return f"{key}{equals}{RENAMED.get(name, name)}"


def former(node: Any) -> dict[str, str]:
    """The old names that the data holds, each by its new one: what it has to be asked for by."""
    if isinstance(node, Mapping | list | tuple):
        items = node.values() if isinstance(node, Mapping) else node
        return {new: old for item in items for new, old in former(item).items()}
    return {RENAMED[node]: node} if isinstance(node, str) and node in RENAMED else {}
