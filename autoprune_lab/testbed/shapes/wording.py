"""The kinds of question, their answers, and how they are worded."""

from autoprune_lab.testbed.shapes.scene import COLOURS, SHAPES, SIZES

YES_NO = ("yes", "no")
QUADRANTS = ("upper-left", "upper-right", "lower-left", "lower-right")
COUNTS = ("0", "1", "2", "3", "4")
SIDES = ("left of", "right of", "above", "below")

ANSWERS: dict[str, tuple[str, ...]] = {
    "exist": YES_NO,
    "attribute": (*COLOURS, *SHAPES, *SIZES),
    "where": QUADRANTS,
    "count": COUNTS,
    "relation": YES_NO,
    "same": (*COLOURS, *SHAPES),
    "read": (),  # any number from 10 to 999
    "chain": (*COLOURS, *SHAPES),
}
# Accuracy of the best answer that ignores the picture. Where colours, shapes and sizes are asked for in turn, the
# question tells which: three groups of answers, each hit once in its own size.
CHANCE = {
    "exist": 1 / 2,
    "attribute": 3 / 13,
    "where": 1 / 4,
    "count": 1 / 5,
    "relation": 1 / 2,
    "same": 2 / 11,
    "read": 1 / 180,
    "chain": 2 / 11,
}
KINDS = tuple(ANSWERS)

# {a} and {b} are things; {value} is a colour or a shape; {of} is the asked attribute.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "exist": (
        "is there a {a} ?",
        "does the picture show a {a} ?",
        "look closely : can you see a {a} anywhere ?",
        "tell me if a {a} is in the scene .",
    ),
    "attribute": (
        "what {of} is the {a} ?",
        "what is the {of} of the {a} ?",
        "please name the {of} of the {a} .",
        "the picture shows one {a} ; which {of} does it have ?",
    ),
    "where": (
        "where is the {a} ?",
        "in which corner is the {a} ?",
        "please say which part of the picture holds the {a} .",
    ),
    "count": (
        "how many {a} are there ?",
        "count the {a} .",
        "please tell me how many {a} the picture shows .",
    ),
    "relation": (
        "is the {a} {side} the {b} ?",
        "does the {a} lie {side} the {b} ?",
        "look closely : is the {a} somewhere {side} the {b} ?",
    ),
    "same": (
        "what {of} is the other thing with the same {link} as the {a} ?",
        "find the {a} ; what is the {of} of the thing that shares its {link} ?",
        "which {of} does the partner of the {a} by {link} have ?",
    ),
    "read": (
        "what number is written ?",
        "read the number .",
        "please tell me which number the picture shows .",
    ),
    "chain": (
        "what {of} is the other thing with the same {clue} as the other thing with the same {link} as the {a} ?",
        "find the {a} , then its partner by {link} , then that one 's partner by {clue} ; what {of} does it have ?",
        "from the {a} go by {link} , then by {clue} : what {of} is there ?",
    ),
}
