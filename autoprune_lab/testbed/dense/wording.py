"""The kinds of question, their answers, and how they are worded.

Every question has 11 to 16 words, all lengths equally likely whatever its kind: openers that mean nothing fill it up.
`few` and `many` share their wording, and so do all trails: only the picture tells how much of it an answer needs.
"""

from autoprune_lab.testbed.dense.scene import HOPS
from autoprune_lab.testbed.shapes.wording import QUADRANTS, YES_NO

FEW, MANY = ("0", "1", "2", "3", "4"), ("5", "6", "7", "8", "9")
TRAILS = tuple(f"trail{hops}" for hops in range(HOPS + 1))  # named after the hops from the named thing to the end

ANSWERS: dict[str, tuple[str, ...]] = {
    "exist": YES_NO,
    "where": QUADRANTS,
    "relation": YES_NO,
    "few": FEW,
    "many": MANY,
    "read": (),  # any number from 10 to 999
    **dict.fromkeys(TRAILS, QUADRANTS),
}
KINDS = tuple(ANSWERS)
# Accuracy of the best answer that ignores the picture, told the kind.
CHANCE = {kind: 1 / len(answers) if answers else 1 / 180 for kind, answers in ANSWERS.items()}

SHORTEST, LONGEST = 11, 16  # words of a question
OPENERS = ("now", "please", "have", "a", "good", "look", "at", "the", "picture", "and", "say", ":")
COUNTING = ("how many {a} are there ?", "count the {a} .", "what is the number of {a} ?")
TRAIL = ("where does the trail of the {a} end ?", "follow the {a} to where its trail ends .")
# {a} and {b} are things.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "exist": ("is there a {a} ?", "can you see a {a} ?", "does it show a {a} anywhere ?"),
    "where": ("where is the {a} ?", "in which corner is the {a} ?"),
    "relation": ("is the {a} {side} the {b} ?", "does the {a} lie {side} the {b} ?"),
    "few": COUNTING,
    "many": COUNTING,
    "read": ("what number is written ?", "read the number ."),
    **dict.fromkeys(TRAILS, TRAIL),
}
