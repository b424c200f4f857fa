"""List the tasks of models that an evaluation can train. A task is one file and one line here."""

from collections.abc import Mapping

from tailforge.tasks.methods.evaluation.classification import CLASSIFICATION
from tailforge.tasks.methods.evaluation.segmentation import SEGMENTATION
from tailforge.tasks.methods.evaluation.task import Task

TASKS: Mapping[str, Task] = {each.name: each for each in (CLASSIFICATION, SEGMENTATION)}
