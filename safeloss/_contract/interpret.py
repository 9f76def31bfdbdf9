"""Reads a call: what its shapes mean under a signature, and what PyTorch must be given.

Plain Python over sizes and element types, the same in eager mode and under `torch.compile`.
"""

from typing import NamedTuple

import torch

from safeloss._contract import codes
from safeloss._contract.model import Call, Edit, Input, Mistake, Offer, Reading, Refusal
from safeloss._contract.options import AT_CALL
from safeloss._contract.patterns import Axes, Pattern, Shape, dtypes_of
from safeloss.errors import AmbiguousLayoutError, DTypeError, LayoutError


class Reader(NamedTuple):
    """Reads the calls of one kernel."""

    inputs: tuple[Input, ...]
    target: str  # the first input that is matched against the axes of others
    sized: tuple[tuple[str, str], ...]  # axes, and the options that may say their size
    mistakes: tuple[Mistake, ...]

    def read(self, call: Call) -> Reading | Refusal:
        """The one reading that fits `call`, or why there is none."""
        last = call.options.get("class_dim") == -1
        one_class = False
        for mistake in self.mistakes:
            if mistake.always and mistake.matches(call, last):
                one_class = mistake.weak and call.allows_one_class
                if not one_class:
                    return mistake.refusal()
        reading = self._resolve(call, last)
        if isinstance(reading, Refusal):
            return reading
        reading = self._with_batch(reading, call)._replace(one_class=one_class)
        return self._with_weights(reading, call)

    def warnings(self, call: Call) -> list[Mistake]:
        """The mistakes in `call` that only cause a warning."""
        last = call.options.get("class_dim") == -1
        return [row for row in self.mistakes if row.warns and row.matches(call, last)]

    def _resolve(self, call: Call, last: bool) -> Reading | Refusal:
        """The one reading that fits; an exact one wins over one that needs alignment."""
        readings = self._readings(call, last, True)
        classes_last = [] if last else self._classes_last_readings(call)
        exact = any([reading.exact for reading in readings + classes_last])
        readings = [reading for reading in readings if reading.exact or not exact]
        classes_last = [reading for reading in classes_last if reading.exact or not exact]
        if readings and not classes_last:
            reading = readings[0]
            if call.options.get("class_dim", 1) is None and self._tells_classes(reading, call):
                return reading._replace(proves=1)
            return reading
        if not readings and not classes_last:
            return self._no_reading_refusal(call, last)
        first, target = f"`{self.inputs[0].name}`", f"`{self.target}`"
        if readings:
            rank = len(call.shapes[self.inputs[0].name])
            if call.knows_class_axis(rank, readings[0].axes["classes"]):
                return readings[0]
            return Refusal(
                AmbiguousLayoutError,
                f"{target} fits {first} with the classes on axis 1 and on the last axis, "
                "and their equal sizes do not tell which.",
                code=codes.CLASS_AXIS_TIE,
                fixes=(
                    Offer("{loss}(class_dim=1)", "axis 1 holds the classes"),
                    Offer("{loss}(class_dim=-1)", "the last axis holds the classes"),
                ),
            )
        for mistake in self.mistakes:
            if mistake.always and mistake.matches(call, True):
                return mistake.refusal()._replace(weak=False)
        return Refusal(
            LayoutError,
            f"{target} fits {first} only if the last axis holds the classes, "
            "and PyTorch takes axis 1 for them.",
            code=codes.CLASSES_LAST,
            fixes=("{loss}(class_dim=-1)",),
        )

    def _classes_last_readings(self, call: Call) -> list[Reading]:
        """Readings with the classes on the last axis, where nobody said which axis it is."""
        undecided = call.options.get("class_dim", 1) is None
        if not undecided or len(call.shapes[self.inputs[0].name]) < 3:
            return []
        classes_last = self._readings(call, True, True)
        return [reading for reading in classes_last if self._tells_classes(reading, call)]

    def _tells_classes(self, reading: Reading, call: Call) -> bool:
        """Whether shapes tell the class axis: inputs have it among others, and targets lack it.

        Targets that have the axis themselves (class probabilities) fit wherever it is, so for
        them torch's convention holds.
        """
        first = self.inputs[0].name
        return (
            len(call.shapes[first]) >= 3
            and reading.patterns[first].has("classes")
            and not reading.patterns[self.target].has("classes")
        )

    def _readings(self, call: Call, last: bool, typed: bool) -> list[Reading]:
        first = self.inputs[0]
        found, sized = [], self._sized(call)
        for pattern in first.patterns_last if last else first.patterns:
            bound = pattern.match(call.shapes[first.name], sized)
            if bound is not None and (not typed or call.dtypes[first.name] in pattern.dtypes):
                reading = Reading(bound, {first.name: pattern}, {}, exact=True)
                reading = self._with_argument(reading, first.name, pattern, call, None, last)
                complete = self._completed(reading, call, last, typed)
                if complete is not None:
                    found.append(complete)
        return found

    def _sized(self, call: Call) -> Axes:
        """The axes whose size an option says."""
        sizes = [(axis, call.options.get(option)) for axis, option in self.sized]
        return {axis: size for axis, size in sizes if size is not None}

    def _completed(self, reading: Reading, call: Call, last: bool, typed: bool) -> Reading | None:
        """`reading` with every other input read under its axes; None where one has no reading."""
        for entry in self.inputs[1:]:
            if entry.weight or entry.name not in call.shapes:
                continue
            shape = call.shapes[entry.name]
            best = None
            for pattern in entry.patterns_last if last else entry.patterns:
                if typed and call.dtypes[entry.name] not in pattern.dtypes:
                    continue
                spelled = pattern.spell(reading.axes)
                if spelled is None:
                    bound = pattern.match(shape, reading.axes)
                    if bound is not None and (
                        pattern.has_anonymous_axis or pattern.introduces_axes
                    ):
                        axes = bound if pattern.introduces_axes else reading.axes
                        best = reading.binding(axes)
                        best = self._with_argument(best, entry.name, pattern, call, None, last)
                        break
                elif self._batched(reading) and not pattern.has("batch"):
                    continue  # all have a batch axis, or none has
                elif tuple(shape) == spelled or self._broadcasts_one_axis(pattern, shape, spelled):
                    best = self._with_argument(reading, entry.name, pattern, call, None, last)
                    break
                elif best is None and pattern.aligns(shape, spelled):
                    best = self._with_argument(reading, entry.name, pattern, call, spelled, last)
            if best is None:
                return None
            reading = best
        return reading

    def _batched(self, reading: Reading) -> bool:
        return "batch" in reading.axes or "*batch" in reading.axes

    def _broadcasts_one_axis(self, pattern: Pattern, shape: Shape, spelled: Shape) -> bool:
        """Whether PyTorch broadcasts `shape` to `spelled`, along exactly one axis of size 1."""
        if not pattern.broadcast or len(shape) != len(spelled):
            return False
        smaller = [axis for axis in range(len(shape)) if shape[axis] != spelled[axis]]
        return len(smaller) == 1 and shape[smaller[0]] == 1

    def _with_argument(
        self,
        reading: Reading,
        name: str,
        pattern: Pattern,
        call: Call,
        view: Shape | None,
        last: bool,
    ) -> Reading:
        """`reading` with the argument `name`.

        `view` is the shape that PyTorch must get; None: it keeps its own.
        """
        rank = len(call.shapes[name] if view is None else view)
        moved = last and rank > 2 and pattern.has("classes")
        dtype = self._cast(pattern, call.dtypes[name], call.dtypes[self.inputs[0].name])
        if pattern.reads == "AS_SCORES":
            indexed = reading.patterns[self.target].reads == "AS_INDICES"
            dtype = dtype if indexed else None  # PyTorch promotes beside class probabilities
        patterns, edits = dict(reading.patterns), dict(reading.edits)
        patterns[name] = pattern
        if view is not None or moved or dtype is not None:
            edits[name] = Edit(view, moved, dtype, pattern.reads == "AS_SCORES")
        exact = reading.exact and view is None
        return reading._replace(patterns=patterns, edits=edits, exact=exact)

    def _cast(
        self, pattern: Pattern, dtype: torch.dtype, scores: torch.dtype
    ) -> torch.dtype | None:
        """The dtype that PyTorch needs; None where it takes what came."""
        wanted = dtype
        if pattern.reads == "AS_INDICES":
            wanted = torch.int64
        elif pattern.reads == "AS_SCORES" or (
            pattern.reads in ("AS_LABELS", "AS_WEIGHTS") and not dtype.is_floating_point
        ):
            wanted = scores
        elif (
            pattern.reads in ("AS_LABELS", "AS_TARGETS")
            and dtype == torch.float64
            and scores.is_floating_point
        ):
            # float32 is exact enough for half scores.
            wanted = dtype if scores == torch.float64 else torch.float32
        return None if wanted == dtype else wanted

    def _with_batch(self, reading: Reading, call: Call) -> Reading:
        """`reading` with the first input in the shape of a target that kept a batch axis of size 1.

        It matters to "batchmean" alone, which divides by the size of the first axis.
        """
        first, target = self.inputs[0].name, self.target
        if call.options.get("reduction") != "batchmean" or target not in reading.edits:
            return reading
        edit, shape = reading.edits[target], tuple(call.shapes[target])
        if edit.shape is None or len(shape) != len(edit.shape) + 1 or shape[0] != 1:
            return reading
        if shape[1:] != tuple(edit.shape):
            return reading
        edits = dict(reading.edits)
        edits[first], edits[target] = (
            edits.get(first, Edit())._replace(shape=shape),
            Edit(dtype=edit.dtype),
        )
        if edit.dtype is None:
            del edits[target]
        return reading._replace(axes={"*shape": shape}, edits=edits)

    def _with_weights(self, reading: Reading, call: Call) -> Reading | Refusal:
        """`reading` with its weights: never aligned, and 1-D ones read on the trailing axis."""
        for entry in self.inputs:
            if entry.weight and entry.name in call.shapes and entry.name not in AT_CALL:
                weighted = self._with_weight(entry, reading, call)
                if isinstance(weighted, Refusal):
                    return weighted
                reading = weighted
        return reading

    def _with_weight(self, entry: Input, reading: Reading, call: Call) -> Reading | Refusal:
        first, name = self.inputs[0].name, entry.name
        shape, full = call.shapes[name], call.shapes[first]
        typed = [pattern for pattern in entry.patterns if call.dtypes[name] in pattern.dtypes]
        if not typed:
            return self._dtype_refusal(entry, call, entry.patterns)._replace(weight=name)
        rule = f"`{name}` does not fit `{first}`."
        misfit = Refusal(LayoutError, rule, code=codes.WEIGHT_SHAPE, weight=name)
        usable = [pattern for pattern in typed if pattern.spell(reading.axes) is not None]
        if not usable:
            return misfit
        pattern, view = usable[0], None
        if pattern.broadcast:
            placed = self._weight_view(name, shape, full, call)
            if isinstance(placed, Refusal):
                return placed
            if placed is None:
                return misfit
            view = None if len(placed) == len(shape) else placed
            undecided = call.options.get("class_dim", 1) is None
            if undecided and len(shape) == 1 and len(full) > 2 and shape[0] not in (1, full[1]):
                reading = reading._replace(proves=-1)
        elif tuple(shape) != pattern.spell(reading.axes):
            return misfit
        return self._with_argument(reading, name, pattern, call, view, False)

    def _weight_view(
        self, name: str, shape: Shape, full: Shape, call: Call
    ) -> Shape | Refusal | None:
        """The shape in which PyTorch broadcasts a weight to `full` as meant; None if it cannot."""
        class_dim = call.options.get("class_dim")
        if len(shape) == 1 and len(full) > 2 and shape[0] != 1 and class_dim != -1:
            if class_dim == 1:
                return (*shape, *(1 for _ in full[2:])) if shape[0] == full[1] else None
            if shape[0] == full[1]:
                trailing = shape[0] == full[-1]
                if not trailing or not call.knows_class_axis(len(full), shape[0]):
                    return self._refuse_weight_axis(name, len(full), trailing)
        if not full and len(shape) == 1 and shape[0] == 1:
            return ()
        return shape if self._broadcasts(shape, full) else None

    def _broadcasts(self, shape: Shape, full: Shape) -> bool:
        """Whether PyTorch broadcasts `shape` to `full` without enlarging that."""
        if len(shape) > len(full):
            return False
        for position in range(1, len(shape) + 1):
            if shape[-position] != full[-position] and shape[-position] != 1:
                return False
        return True

    def _refuse_weight_axis(self, name: str, rank: int, trailing: bool) -> Refusal:
        rule = (
            f"`{name}` fits axis 1 and the last axis, and their equal sizes do not tell which."
            if trailing
            else f"`{name}` fits axis 1, and PyTorch takes a 1-D weight for the last axis."
        )
        per_class = f"`{name}` has one number for each index of axis 1 (channels, classes)"
        last = f"`{name}` has one number for each index of the last axis"
        fixes: tuple[Offer, ...] = (Offer(f"{name}.view(-1{', 1' * (rank - 2)})", per_class),)
        if trailing:
            fixes = (Offer("{loss}(class_dim=1)", per_class), Offer("{loss}(class_dim=-1)", last))
        error = AmbiguousLayoutError if trailing else LayoutError
        return Refusal(error, rule, code=codes.WEIGHT_AXIS, fixes=fixes, weight=name)

    def _no_reading_refusal(self, call: Call, last: bool) -> Refusal:
        """The refusal that explains best why no reading fits."""
        for mistake in self.mistakes:
            if not mistake.always and not mistake.warns and mistake.matches(call, last):
                return mistake.refusal()
        first = self.inputs[0]
        shape, dtype = call.shapes[first.name], call.dtypes[first.name]
        patterns = first.patterns_last if last else first.patterns
        if not any([dtype in pattern.dtypes for pattern in patterns]):
            return self._dtype_refusal(first, call, patterns)
        matched = [pattern for pattern in patterns if pattern.match(shape, {}) is not None]
        if not matched:
            axes = "1 axis" if len(shape) == 1 else f"{len(shape)} axes"
            texts = " or ".join(dict.fromkeys([pattern.text for pattern in patterns]))
            rule = f"`{first.name}` has {axes}, and must be {texts}."
            return Refusal(LayoutError, rule, code=codes.NUMBER_OF_AXES)
        for axis, option in self.sized:
            if call.options.get(option) is not None:
                sized: Axes = {axis: call.options[option]}
                if all([pattern.match(shape, sized) is None for pattern in matched]):
                    rule = f"`{first.name}` does not have as many {axis} as `{option}` says."
                    return Refusal(LayoutError, rule, code=codes.SIZE_OF_AXIS)
        refusal = self._dtype_refusal_if_shapes_fit(call, last)
        if refusal is None:
            refusal = self._lost_batch_refusal(call, last)
        if refusal is None:
            names = " and ".join(self._quoted_inputs(call))
            refusal = Refusal(LayoutError, f"{names} do not fit together.", code=codes.DO_NOT_FIT)
        return refusal

    def _lost_batch_refusal(self, call: Call, last: bool) -> Refusal | None:
        """The refusal where the first argument lacks the batch axis of one that another has."""
        first = self.inputs[0].name
        shapes = dict(call.shapes)
        shapes[first] = (1, *call.shapes[first])
        if not self._readings(Call(shapes, call.dtypes, call.options), last, True):
            return None
        for entry in self.inputs[1:]:
            shape = call.shapes.get(entry.name, ())
            rows = [p for p in entry.patterns if p.has("batch") and not p.has("classes")]
            batched = any([not p.unaligned for p in rows])
            if batched and not entry.weight and len(shape) > 0 and shape[0] == 1:
                rule = f"`{entry.name}` is a batch of one, and `{first}` has lost its batch axis."
                when = f"`{first}` is one sample, without its batch axis"
                fixes = (Offer(f"{first}.unsqueeze(0)", when),)
                return Refusal(LayoutError, rule, code=codes.LOST_BATCH_AXIS, fixes=fixes)
        return None

    def _dtype_refusal_if_shapes_fit(self, call: Call, last: bool) -> Refusal | None:
        """The refusal where the shapes fit and only a dtype does not; else None."""
        readings = self._readings(call, last, False)
        if not readings:
            return None
        for entry in self.inputs:
            if entry.name in readings[0].patterns:
                pattern = readings[0].patterns[entry.name]
                declared = entry.patterns_last if last else entry.patterns
                same = [p for p in declared if p.text == pattern.text]
                if not any([call.dtypes[entry.name] in p.dtypes for p in same]):
                    return self._dtype_refusal(entry, call, tuple(same))
        return None

    def _dtype_refusal(self, entry: Input, call: Call, patterns: tuple[Pattern, ...]) -> Refusal:
        """The refusal of the dtype of `entry`."""
        dtype = str(call.dtypes[entry.name]).replace("torch.", "")
        kinds = dtypes_of(patterns)
        vectors = any([pattern.has("features") for pattern in patterns])
        scores = entry is self.inputs[0] and kinds == "floating" and not vectors
        meant = " (scores, not class numbers or labels)" if scores else ""
        rule = f"`{entry.name}` is {dtype}; it must be {kinds}{meant}."
        classes = scores and any([pattern.has("classes") for pattern in patterns])
        chosen = classes and dtype.startswith(("int", "uint", "bool"))
        advice = "If it comes out of `argmax`, pass the scores from before it." if chosen else ""
        return Refusal(DTypeError, rule, code=codes.DTYPE, advice=advice)

    def _quoted_inputs(self, call: Call) -> list[str]:
        given = [entry for entry in self.inputs if entry.name in call.shapes]
        return [f"`{entry.name}`" for entry in given if not entry.weight]
