"""What is said of a training's progress, in English with {places} to be filled; the page has each in its other languages."""

EARLY = "Too early to say: {count} of the {needed} measurements that a first word needs are made. Let it go on."
UNCLEAR = "Nothing is clear yet: the error changed by {change} % since the start, which is within what chance gives. Let it go on."
PAUSING = "Between two moves: {gain} % better than at the start, and not getting better at the moment. Wait for more measurements."
LEARNING = "Still learning: {rate} % better in 100 steps, and {gain} % better than at the start. Let it go on."
FLAT = "Flat since step {since}: {gain} % better than at the start, and no longer changing. Stop here, or go on with a lower learning rate."
MEMORISING = (
    "Memorising since step {since}: the pictures it learns from are still matched better, but those it never sees {loss} % worse than then. "
    "Use the best so far, of step {since}, or add pictures and lower the learning rate."
)
UNLEARNING = "Losing what it learned: the best was step {since}, and the pictures are matched {loss} % worse now. Use the best so far, of step {since}, and lower the learning rate."
WORSE = "Diverging: the pictures are matched {loss} % worse than at the start. Stop, and begin again with a learning rate a tenth of {rate}."
LONG = "Diverging: the vectors are {times} times as long as an ordinary word's ({norm} against {ordinary}). Stop, and begin again with a learning rate a tenth of {rate}."
HIGH = "Diverging: the error of the last {count} steps is {times} times what it was before ({loss} against {before}). Stop, and begin again with a learning rate a tenth of {rate}."
BROKEN = "Diverging: {count} of the last {window} steps gave numbers that are not finite. Stop, and begin again with a learning rate a tenth of {rate}."
UNNAMED = "Not learning at all: none of the {count} training prompts holds the word, so nothing can change it. Choose a template with [name]."
STILL = "Not learning at all: what learns has not moved in {steps} steps at a learning rate of {rate}. Raise the learning rate tenfold."
IDLE = (
    "Not learning at all: what learns moved, but after {steps} steps the error of the pictures is what it was at the start (it changed by {change} %). "
    "Raise the learning rate, or see whether the captions already say everything the pictures show."
)
WENT_FLAT = "Stopped by itself at step {step}: the curve has gone flat. Over the last {window} measurements it varied {share} % as much as over all of them, and the limit is {limit} %."
NO_BETTER = "Stopped by itself at step {step}: the last {count} measurements were no better than that of step {best} ({gain} % better than at the start)."

SENTENCES: dict[str, str] = {
    EARLY: "early",
    UNCLEAR: "early",
    PAUSING: "early",
    LEARNING: "learning",
    FLAT: "flat",
    MEMORISING: "memorising",
    UNLEARNING: "diverging",
    WORSE: "diverging",
    LONG: "diverging",
    HIGH: "diverging",
    BROKEN: "diverging",
    UNNAMED: "not_learning",
    STILL: "not_learning",
    IDLE: "not_learning",
}
"""Every sentence of a verdict, and the kind of the verdict that says it."""
STOPS: dict[str, str] = {WENT_FLAT: "flat", NO_BETTER: "patience"}
"""Every sentence of a rule that ended a training, and the rule."""
