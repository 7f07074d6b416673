"""Recipes: one frozen dataclass a section is the one place for names, defaults, ranges and help."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.errors import UsageError
from mfcd_train.loader import ON_BAD_GOP
from mfcd_train.losses import HINT_REDUCTIONS, SOFT_DIRECTIONS
from mfcd_train.models.frame_resnet import RESNETS
from mfcd_train.models.mfnet3d import HINT_LAYERS
from mfcd_train.optimizers import OPTIMIZERS
from mfcd_train.schedule import SCHEDULES, warmup_factor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from dataclasses import Field

MFNET3D = "mfnet3d"
NETWORKS = (MFNET3D, *RESNETS)
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
HIGHEST = 1e10
"""Where a key has no bound of its own; those that are multiplied have one that keeps them numbers in float32."""


def key(
    default: Any,  # noqa: ANN401 - of the type of the key
    help_text: str,
    low: float = 0.0,
    high: float = HIGHEST,
    one_of: Collection[str] = (),
) -> Any:  # noqa: ANN401
    """A recipe key: default, help, and what values are allowed."""
    return field(default=default, metadata={"help": help_text, "low": low, "high": high, "one_of": tuple(one_of)})


@dataclass(frozen=True)
class DataRecipe:
    """What the network is fed."""

    clip_format: str = key("augmented", "clip format", one_of=CLIP_FORMATS)
    frame_size: int = key(256, "side to which frames are resized, pixels", 16)
    crop_size: int = key(224, "side of the crop, pixels", 16)
    flip: float = key(0.5, "probability of a horizontal flip in training", 0, 1)
    residual_offset: float = key(0.0, "added to residuals: 0 as printed, 128 as in the authors' code", 0, 255)
    num_frames: int = key(0, "P-frames that a ResNet sees of a clip, evenly apart; 0: it sees the whole clip", 0)
    batch_size: int = key(32, "clips a step", 1)
    split: str = key("", "name of the split in the store; empty: its first one")


@dataclass(frozen=True)
class ModelRecipe:
    """The network."""

    network: str = key("mfnet3d", "network; a ResNet sees frame by frame, as CoViAR", one_of=NETWORKS)
    width: float = key(1.0, "factor on the channels of the stages", 1 / 12)
    depth: tuple[int, ...] = key((3, 4, 6, 3), "units of the four stages", 1)


@dataclass(frozen=True)
class OptimRecipe:
    """The optimizer and its schedule."""

    optimizer: str = key("sgd", "optimizer; the paper's is sgd", one_of=OPTIMIZERS)
    learning_rate: float = key(0.005, "learning rate at its highest", 0, 1e30)
    momentum: float = key(0.9, "momentum of sgd, first beta of adamw", 0, 0.9999)
    nesterov: bool = key(default=True, help_text="Nesterov's momentum")
    weight_decay: float = key(1e-4, "weight decay", 0, 1e3)
    epochs: int = key(30, "epochs; each draws one GOP of every video", 1)
    schedule: str = key("step", "how the learning rate falls", one_of=SCHEDULES)
    milestones: tuple[int, ...] = key((15, 25), "epochs after which `step` multiplies by gamma", 0)
    gamma: float = key(0.1, "factor of `step` and `plateau`", 0, 1)
    plateau_epochs: int = key(3, "epochs without a better validation after which `plateau` multiplies by gamma", 1)
    warmup_epochs: float = key(0.0, "epochs of linear warm-up")
    backbone_factor: float = key(1.0, "factor on the learning rate of all but the classifier", 0, 1e3)
    clip_norm: float = key(0.0, "length to which a longer gradient is cut; 0: none is")
    label_smoothing: float = key(0.0, "share of a label that is spread over all classes", 0, 0.99)
    accumulate: int = key(1, "parts of a batch that go through the network one by one, where memory is short", 1)
    sync_batchnorm: bool = key(default=False, help_text="batch statistics over all GPUs in place of one by one")
    ema_decay: float = key(0.0, "decay a step of the moving average of weights that is evaluated; 0: none", 0, 0.999999)
    early_stop: int = key(0, "epochs without a better validation after which training ends; 0: never", 0)

    def __post_init__(self) -> None:
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise UsageError("optim.momentum 0 with optim.nesterov: expected momentum above 0, or nesterov = false")
        if self.warmup_epochs > self.epochs:
            raise UsageError(
                f"optim.warmup_epochs {self.warmup_epochs:g}: expected at most optim.epochs, which is {self.epochs}"
            )

    def rate_at(self, epoch: float, num_plateaus: int = 0) -> float:
        """Learning rate of the classifier at a fractional epoch, after warm-up and so many plateaus."""
        milestones = (0,) * num_plateaus if self.schedule == "plateau" else self.milestones
        factor = SCHEDULES[self.schedule](epoch, self.epochs, milestones, self.gamma)
        return self.learning_rate * warmup_factor(epoch, self.warmup_epochs) * factor


@dataclass(frozen=True)
class DistillRecipe:
    """Losses that make a student mimic its teacher (Eq. 5-8); both weights 0: no teacher."""

    hint_weight: float = key(0.0, "lambda 1 of Eq. 8")
    hint_layers: tuple[str, ...] = key(HINT_LAYERS, "layers compared in Eq. 5", one_of=HINT_LAYERS)
    hint_reduction: str = key("mean", "reduction of Eq. 5", one_of=HINT_REDUCTIONS)
    soft_weight: float = key(0.0, "lambda 2 of Eq. 8")
    soft_direction: str = key(
        "student-teacher",
        "KL(student || teacher) as printed in Eq. 6, or Hinton's KL(teacher || student) tau^2",
        one_of=SOFT_DIRECTIONS,
    )
    temperature: float = key(4.0, "tau of Eq. 6", 1e-3)

    def __post_init__(self) -> None:
        if not self.hint_layers or len(set(self.hint_layers)) < len(self.hint_layers):
            raise UsageError(
                f"distill.hint_layers {list(self.hint_layers)}: expected each layer once, of {', '.join(HINT_LAYERS)}; "
                "hint_weight = 0 compares none"
            )

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher."""
        return self.hint_weight > 0 or self.soft_weight > 0


@dataclass(frozen=True)
class RunRecipe:
    """How the run goes, without effect on what is learnt in exact arithmetic."""

    precision: str = key("32-true", "arithmetic", one_of=PRECISIONS)
    num_threads: int = key(0, "torch threads on a CPU; 0: one a core", 0, 1024)
    loader_threads: int = key(2, "threads that read and decompress; more than cores do not help", 1, 1024)
    on_bad_gop: str = key("stop", "what to do about a GOP that cannot be read in training", one_of=ON_BAD_GOP)
    validate_every: int = key(1, "epochs between validations; the last one always", 1)
    checkpoint_seconds: float = key(300.0, "seconds between checkpoints within an epoch; 0: after every step")
    keep_last: int = key(0, "epochs whose checkpoints are kept, beside the last and the best one", 0)
    tensorboard: bool = key(default=True, help_text="write events for TensorBoard into the run folder")
    report: bool = key(default=True, help_text="write a page on the run at its end")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is trained. Unknown keys and values out of range raise UsageError."""

    data: DataRecipe = field(default_factory=DataRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    optim: OptimRecipe = field(default_factory=OptimRecipe)
    distill: DistillRecipe = field(default_factory=DistillRecipe)
    run: RunRecipe = field(default_factory=RunRecipe)

    def __post_init__(self) -> None:
        if self.data.crop_size > self.data.frame_size:
            raise UsageError(
                f"data.crop_size {self.data.crop_size}: expected at most data.frame_size {self.data.frame_size}"
            )
        _check_network(self.model.network, self.data, self.distill)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values for TOML and JSON."""
        return {section: _plain(getattr(self, section)) for section in SECTIONS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Parse nested values. Raises UsageError naming the nearest known key."""
        return replace(cls(), **{section: _parse_section(section, keys) for section, keys in values.items()})


SECTIONS = tuple(f.name for f in fields(Recipe))


def describe_keys() -> dict[str, str]:
    """What each key means and may be, by `section.key = default` as it is written in TOML."""
    sections = {section: getattr(Recipe(), section) for section in SECTIONS}
    return {
        f"{section}.{entry.name} = {_typed(getattr(keys, entry.name))}": f"{entry.metadata['help']}{_bounds(entry)}"
        for section, keys in sections.items()
        for entry in fields(keys)
    }


def _typed(value: Any) -> str:  # noqa: ANN401
    return json.dumps(value) if isinstance(value, bool | str | tuple) else f"{value:g}"


def _bounds(entry: Field[Any]) -> str:
    if entry.metadata["one_of"]:
        return f"; one of {', '.join(entry.metadata['one_of'])}"
    return "" if isinstance(entry.default, bool | str) else f"; {_range(entry.metadata)}"


def _range(allowed: Mapping[str, Any]) -> str:
    return f"{allowed['low']:g} to {allowed['high']:g}"


def _plain(section: Any) -> dict[str, Any]:  # noqa: ANN401
    values = {f.name: getattr(section, f.name) for f in fields(section)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _check_network(network: str, data: DataRecipe, distill: DistillRecipe) -> None:
    takes_frames = data.num_frames > 0 or data.clip_format == "iframe"
    if network == MFNET3D and takes_frames:
        raise UsageError(
            f"data.clip_format {data.clip_format} with data.num_frames {data.num_frames} and model.network {network}, "
            f"which sees whole clips: expected {' or '.join(RESNETS)}, or another clip format and num_frames 0"
        )
    if data.num_frames and data.clip_format == "iframe":
        raise UsageError(
            f"data.num_frames {data.num_frames} with data.clip_format iframe: expected 0, it has one frame"
        )
    if network != MFNET3D and distill.needs_teacher:
        raise UsageError(
            f"model.network {network} with distill weights above 0: expected {MFNET3D}, whose layers a teacher has, "
            "or hint_weight and soft_weight 0"
        )


def _parse_section(name: str, keys: Any) -> Any:  # noqa: ANN401
    _known(name, SECTIONS, "section")
    if not isinstance(keys, dict):
        raise UsageError(f"recipe section {name!r} is {keys!r}: expected a table of keys")
    return _parse(getattr(Recipe(), name), name, keys)


def _parse(section: Any, name: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    known = {f.name: f for f in fields(section)}
    parsed = {}
    for entry, value in values.items():
        _known(entry, known, f"key of [{name}]")
        parsed[entry] = _checked(f"{name}.{entry}", value, getattr(section, entry), known[entry].metadata)
    return replace(section, **parsed)


def _checked(name: str, value: Any, default: Any, allowed: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple):
            raise UsageError(f"{name} is {value!r}: expected a list, such as {list(default)}")
        return tuple(_checked(name, item, default[0], allowed) for item in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        raise UsageError(f"{name} is {value!r}: expected {type(default).__name__}, such as {default!r}")
    if allowed["one_of"] and value not in allowed["one_of"]:
        raise UsageError(f"{name} is {value!r}: expected one of {', '.join(allowed['one_of'])}")
    if isinstance(value, int | float) and not allowed["low"] <= value <= allowed["high"]:
        raise UsageError(f"{name} is {value!r}: expected {_range(allowed)}")
    return value


def _known(name: str, names: Iterable[str], what: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, 0.0)
        raise UsageError(f"recipe has no {what} {name!r}: did you mean {near[0]!r}?")
