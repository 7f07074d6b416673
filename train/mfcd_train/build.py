"""From a recipe or a run to what runs: device, network, teacher."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning_fabric import Fabric

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.console import warn
from mfcd_core.errors import UsageError
from mfcd_train.checkpoint import load_checkpoint, load_weights
from mfcd_train.models.mfnet3d import MFNet3D
from mfcd_train.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from mfcd_train.config import OptimRecipe, Recipe
    from mfcd_train.runlog import RunLog

DEVICES = ("auto", "cpu", "cuda")


def build_fabric(recipe: Recipe, device: str) -> Any:  # noqa: ANN401 - precision is typed as a closed set of literals
    """One device and a precision; on a CPU also the number of threads. Raises UsageError for a device not there."""
    if device not in DEVICES or (device == "cuda" and not torch.cuda.is_available()):
        raise UsageError(f"--device {device}: expected one of {', '.join(DEVICES)}, and cuda only where a GPU is found")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    torch.set_num_threads(recipe.run.num_threads or len(os.sched_getaffinity(0)))
    torch.backends.cudnn.benchmark = True
    precision: Any = recipe.run.precision
    fabric = Fabric(accelerator=device, devices=1, precision=precision)
    if precision == "bf16-mixed" and fabric.device.type == "cpu":
        warn("run.precision bf16-mixed on a CPU: torch gives gradients that are no numbers now and then; use 32-true")
    fabric.launch()
    return fabric


def build_model(recipe: Recipe, num_classes: int) -> MFNet3D:
    """The recipe's network, in the memory order that 3D convolutions like best."""
    depth = recipe.model.depth
    if len(depth) != 4:
        raise UsageError(f"model.depth {list(depth)}: expected four numbers of units, such as [3, 4, 6, 3]")
    channels = CLIP_FORMATS[recipe.data.clip_format].num_channels
    model = MFNet3D(num_classes, recipe.model.width, (depth[0], depth[1], depth[2], depth[3]), channels)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload] # missing in torch's own types
    return model


def build_optimizer(optim: OptimRecipe, model: MFNet3D) -> Optimizer:
    """The recipe's optimizer of all parameters."""
    build = OPTIMIZERS[optim.optimizer]
    return build(model.parameters(), optim.learning_rate, optim.momentum, optim.weight_decay, nesterov=optim.nesterov)


def load_model(run: RunLog, fabric: Fabric) -> MFNet3D:
    """The network of a run with the weights of its checkpoint, in eval mode, set up on the device."""
    model = build_model(run.recipe, len(run.classes))
    load_weights(model, load_checkpoint(run.folder)["model"], str(run.folder))
    return setup(fabric, model.requires_grad_(requires_grad=False)).eval()


def setup(fabric: Fabric, model: MFNet3D) -> MFNet3D:
    """Set a network up on the device: what comes back stands in for it, its hints included."""
    wrapped = fabric.setup_module(model)
    wrapped.mark_forward_method("forward_with_hints")
    return cast("MFNet3D", wrapped)
