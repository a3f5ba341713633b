"""What can be known of a job before anything is compiled or written: errors, on the host."""

import warnings

from jaxnet.data import DataSet
from jaxnet.data.arrays import channels_first
from jaxnet.data.preprocessing import check_memory
from jaxnet.errors import ConfigurationError, DataError, DataWarning
from jaxnet.sweeps.space.effects import Uses, check_effects
from jaxnet.sweeps.space.job import Job
from jaxnet.sweeps.stacks.prepared import shapes_of
from jaxnet.training.learner import check_fits_images, check_model
from jaxnet.training.settings import Structure
from jaxnet.training.step import check_optimizer


def check_identified(job: Job) -> None:
    """Raise ConfigurationError for a value that has neither a content to be known by nor a name."""
    for structure in {c.structure for c in job.configurations()}:
        for name, one in structure.handed_in.items():
            if one.unknown is not None:
                raise ConfigurationError(
                    f"{name}: nothing tells {one.label} from another value ({one.unknown}), and a "
                    f"run folder files results by value: give it a name, such as "
                    f'jaxnet.named("mine", ...), and another whenever you change it'
                )


def check_job(job: Job, data: DataSet, *, filed: bool = False) -> None:
    """Raise ConfigurationError for what does not fit the data, fails, or has no effect.

    And for values that nothing tells from others, if results are to be `filed` in a run folder.
    """
    if filed:
        check_identified(job)
    if job.halving is not None:
        job.halving.rungs(job.steps, len(job.units()))
    check_labels_alike(job, data)
    (train, _), whole_shapes = job.sizes(data), shapes_of(data)
    most = min(train, data.train_images[0].size)
    for method in {c.structure.preprocessing for c in job.configurations()}:
        check_memory(method, train, data.train_images[0].size)
    uses: dict[Structure, Uses] = {}
    for structure in dict.fromkeys(c.structure for c in job.configurations()):
        components = structure.components
        if components is not None and components > most:
            raise ConfigurationError(
                f"components must be in 1..{most}, the smaller of training images and pixels, "
                f"got {components}"
            )
        shapes = whole_shapes if components is None else whole_shapes._replace(input=(components,))
        model = optimizer = None
        if structure.model is None and structure.row.takes_images:
            if (sentence := channels_first(shapes.input)) is not None:
                raise DataError(f"{data.name}: {sentence}, which a net of convolutions takes")
            check_fits_images(structure, shapes)
        # With a share of the variance the number of inputs is known once it is fitted.
        if structure.model is not None and structure.variance is None:
            model = check_model(structure, shapes)
        if not isinstance(structure.optimizer, str):
            optimizer = check_optimizer(structure, shapes)
        if model is not None or optimizer is not None:
            uses[structure] = Uses(model, optimizer)
    check_effects(job, uses)


def check_labels_alike(job: Job, data: DataSet) -> None:
    """Warn of labels that are distributed differently in validation or test than trained on.

    DataError where rows sorted by class are cut so that most of the validation rows are of classes
    that are not trained on: no network could learn them.
    """
    alike = "split='stratified' (--split stratified) draws all parts alike"
    for part, shift in job.label_shifts(data).items():
        tail = part == "validation" and job.split_kind(data) == "tail"
        cause = ": the rows are sorted by class" if tail and data.is_sorted() else ""
        if cause and shift.unseen > 0.5:
            raise DataError(f"{data.name}, validation: {shift}{cause}. {alike}")
        if shift.clear:
            remedy = f". {alike}" if tail else ""
            warnings.warn(
                f"{data.name}: the {part} labels are distributed differently from those trained "
                f"on: {shift}{cause}{remedy}",
                DataWarning,
                stacklevel=3,
            )
