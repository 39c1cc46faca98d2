"""Records of answers that no model gave."""

from dataclasses import fields

from autoprune_lab.statistics.records import Record
from autoprune_lab.tasks.base import Sample


def answered(sample: Sample, prediction: str) -> Record:
    """The sample answered with `prediction`; all costs are 1."""
    known = {"id": sample.id, "kind": sample.kind, "prediction": prediction, "answers": sample.answers}
    ones = {field.name: {int: 1, float: 1.0}.get(field.type, ()) for field in fields(Record)}
    return Record(**ones | known | {"score": 0.0, "complexity": None, "confidence": None})
