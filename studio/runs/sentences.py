"""What is said of a training's progress, in English with {places} to be filled: a finding, and an advice after it. The page has each in its other languages."""

EARLY = "Too early: {count} of {needed} measurements."
UNCLEAR = "Too early: the loss changed by {change} % from step {from} to step {to}, which is within noise."
NO_TREND = "No clear trend: {change} % from step {from} to step {to}, and not falling at the moment."
IMPROVING = "Still improving: {change} % from step {from} to step {to}."
SPENT = "Improved by {change} % from step {from} to step {to}, but the learning rate is down to {rate}, so little more will change."
IMPROVED = "Ended while still improving: {change} % from step {from} to step {to}."
DECAYED = "Ended: improved by {change} % from step {from} to step {to}; the learning rate has decayed to {rate}."
PLATEAU = "Plateaued since step {since}."
OVERFITTING = "Overfitting since step {since}: the loss on held-out images rose from {low} % to {now} % (against step 0), the loss on training images did not."
UNSEEN = "Overfitting: the loss on training images fell by {gain} %, the loss on held-out images did not (now {now} % against step 0)."
WORSENING = "Getting worse since step {since}: the loss rose from {low} % to {now} % (against step 0)."
WORSE = "Diverging: the loss is {change} % higher than at step 0."
LONG = "Diverging: the vectors are {times} times as long as an ordinary word's ({norm} against {ordinary})."
HIGH = "Diverging: the mean loss of the last {count} steps is {times} times what it was before ({loss} against {before})."
BROKEN = "Diverging: {count} of the last {window} steps gave NaN or infinite values."
UNNAMED = "Not learning: none of the {count} training prompts contains the word."
STILL = "Not learning: the weights haven't changed for {steps} steps."
IDLE = "Not learning: the loss changed by {change} % from step {from} to step {to}, which is within noise."

KEEP_TRAINING = "Keep training."
COMPARE = "Compare the previews, or train further."
USE_BEST = "Use step {best} (best)."
USE_OR_EXTEND = "Use step {best} (best), or train further."
EXTEND = "Use step {best} (best). Extending the run restores the learning rate."
STOP_USE_BEST = "Stop and use step {best} (best)."
STOP_OR_LOWER = "Stop and use step {best} (best), or continue with a learning rate below {rate}."
USE_MORE_IMAGES = "Use step {best} (best). More images or a lower learning rate help."
LOWER_AFTER = "Use step {best} (best), and lower the learning rate next time (was {rate})."
NOT_KEPT = "Step {best} was the best, but its weights were not kept. To get it, train again and end at that step."
MORE_IMAGES = "Add images or lower the learning rate (now {rate})."
RESTART = "Start again with a learning rate of {lower} (was {rate})."
NAME_IT = "Choose a template with [name]."
RAISE = "Raise the learning rate (now {rate}), or check whether the captions already describe everything."
WENT_FLAT = "Early stopping at step {step}: plateaued. The variance of the last {window} measurements is {share} % of that of all of them; the limit is {limit} %."
NO_BETTER = "Early stopping at step {step}: no improvement in {count} measurements since step {best} ({gain} % better than step 0)."

SENTENCES: dict[str, str] = {
    EARLY: "too_early",
    UNCLEAR: "too_early",
    NO_TREND: "too_early",
    IMPROVING: "improving",
    SPENT: "improving",
    IMPROVED: "improving",
    DECAYED: "improving",
    PLATEAU: "plateau",
    OVERFITTING: "overfitting",
    UNSEEN: "overfitting",
    WORSENING: "diverging",
    WORSE: "diverging",
    LONG: "diverging",
    HIGH: "diverging",
    BROKEN: "diverging",
    UNNAMED: "not_learning",
    STILL: "not_learning",
    IDLE: "not_learning",
}
"""Every finding of a diagnosis, and the state that it speaks of."""
ADVICE = (
    KEEP_TRAINING,
    COMPARE,
    USE_BEST,
    USE_OR_EXTEND,
    EXTEND,
    STOP_USE_BEST,
    STOP_OR_LOWER,
    USE_MORE_IMAGES,
    LOWER_AFTER,
    NOT_KEPT,
    MORE_IMAGES,
    RESTART,
    NAME_IT,
    RAISE,
)
"""Every advice that follows a finding."""
ENDED_ADVICE = (COMPARE, USE_BEST, USE_OR_EXTEND, EXTEND, USE_MORE_IMAGES, LOWER_AFTER, NOT_KEPT, MORE_IMAGES, RESTART, NAME_IT, RAISE)
"""What may be advised when a run has ended."""
STATES = ("improving", "plateau", "overfitting", "diverging", "not_learning", "too_early")
"""States of a training, in the order in which they are offered."""
STOPS: dict[str, str] = {WENT_FLAT: "flat", NO_BETTER: "patience"}
"""Every sentence of a rule that ended a training, and the rule."""
