"""The codes of mistakes: a code names one kind of mistake, which several losses may share.

Users search for codes and filter warnings by them, so a code never changes its meaning and is never
used again. Whatever refuses or warns holds its code, and `_messages/catalogue` explains each one.
"""

# SL1xx: shapes, dtypes, types, devices and options. Inputs that do not fit each other:
DO_NOT_FIT = "SL101"
NUMBER_OF_AXES = "SL102"
SIZE_OF_AXIS = "SL103"
LOST_BATCH_AXIS = "SL104"
BROADCAST = "SL105"
# ... the axis of the classes:
CLASSES_LAST = "SL111"
CLASS_AXIS_TIE = "SL112"
BATCH_OR_CLASSES = "SL113"
ONE_SCORE = "SL114"
ONE_CLASS = "SL115"
# ... labels of another kind than the loss takes:
CLASS_INDICES = "SL121"
ONE_LABEL = "SL122"
FLOATING_INDICES = "SL123"
ONE_HOT = "SL124"
BOOL_INDICES = "SL125"
# ... weights:
WEIGHT_SHAPE = "SL131"
WEIGHT_AXIS = "SL132"
PER_SAMPLE = "SL133"
UNWEIGHTED = "SL134"
# ... dtypes, types, devices and options:
DTYPE = "SL141"
NO_TENSOR = "SL142"
DEVICES = "SL143"
OPTION = "SL144"
SWAPPED = "SL145"
DATA_IN_CONSTRUCTOR = "SL146"
# ... calls of `typed` functions and of `audit`:
TYPED = "SL151"
AUDIT = "SL152"

# SL2xx: source code.

# SL3xx: values. Numbers that a loss refuses:
NAN = "SL301"
LABELS_OUTSIDE = "SL302"
SIGNS = "SL303"
NO_PROBABILITIES = "SL304"
NO_LOG_PROBABILITIES = "SL305"
CLASS_INDEX = "SL306"
SUM_TO_ONE = "SL307"
NEGATIVE = "SL308"
CLASS_SETS = "SL309"
CTC_LABELS = "SL311"
CTC_LENGTHS = "SL312"
CTC_TOO_SHORT = "SL313"
# ... reductions:
EMPTY_MEAN = "SL321"
BATCHMEAN = "SL322"
IGNORED_INDEX = "SL323"
DENOMINATOR = "SL324"
# ... and predictions that are suspicious:
DOUBLE_ACTIVATION = "SL331"
NORMALISED_AXIS = "SL332"
NOT_FINITE = "SL333"

# SL4xx: checks before training. The step, and what it is given:
STEP = "SL401"
FIT = "SL402"
BATCH_CHANGED = "SL403"
HEAD = "SL411"
# ... the labels, and the loss at the start:
LABELS = "SL421"
ALL_ALIKE = "SL422"
IMBALANCE = "SL423"
START = "SL431"
# ... samples that have a part in others:
MIXED = "SL441"
MODEL_MIXES = "SL442"
# ... gradients:
UNREACHED = "SL451"
OPTIMIZER = "SL452"
NOT_FINITE_GRADIENT = "SL453"
ZERO_GRADIENT = "SL454"
NORMS = "SL455"
# ... and a short training:
OVERFIT = "SL461"
LAST_BATCH = "SL462"
EVALUATION = "SL463"
REPEAT = "SL464"
