"""From a recipe or a run to what runs: device, network, teacher."""

from __future__ import annotations

import atexit
import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.console import hush, say
from mfcd_core.errors import UsageError
from mfcd_train.checkpoint import CHECKPOINT, UNAVERAGED, load_checkpoint, load_weights
from mfcd_train.config import MFNET3D
from mfcd_train.models.frame_resnet import FrameResNet
from mfcd_train.models.mfnet3d import MFNet3D
from mfcd_train.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from mfcd_train.config import OptimRecipe, Recipe
    from mfcd_train.models import Network
    from mfcd_train.runlog import RunLog

DEVICES = ("auto", "cpu", "cuda")
LEAST_BF16_FRAMES, LEAST_BF16_CROP = 5, 17
"""Clips whose every layer torch 2.13 differentiates in bf16 on a CPU; smaller ones: see train/EXPERIMENTS.md."""


def build_fabric(recipe: Recipe, device: str, *, deterministic: bool = False) -> Fabric:
    """The devices of this process and its peers under `torchrun`, and the precision; on a CPU the number of threads.

    deterministic: the same numbers from the same command, at the price of speed on a GPU.
    What only a GPU does in 16 bits a CPU does in 32. Raises UsageError for a device that is not there.
    """
    num_gpus = torch.cuda.device_count()
    if device not in DEVICES or (device == "cuda" and not num_gpus):
        raise UsageError(f"--device {device}: expected one of {', '.join(DEVICES)}, and cuda only where a GPU is found")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    torch.set_num_threads(recipe.run.num_threads or len(os.sched_getaffinity(0)))
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
    peers, local_peers = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    on_cpu = device == "cpu" or not num_gpus
    precision: Any = "32-true" if on_cpu and recipe.run.precision == "16-mixed" else recipe.run.precision
    if not on_cpu and peers == 1 < num_gpus:
        say(f"1 of {num_gpus} GPUs is used: `torchrun --nproc-per-node {num_gpus} --no-python mfcd-train ...` uses all")
    fabric = Fabric(
        accelerator=device,
        devices=local_peers,
        num_nodes=peers // local_peers,
        strategy="ddp" if peers > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    atexit.register(_leave_processes)
    if not fabric.is_global_zero:
        hush()
    return fabric


def _leave_processes() -> None:
    """Part from the other processes of this run, if there are any: left to the end of Python, its threads may abort."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_training(recipe: Recipe, num_frames: int, device: torch.device) -> None:
    """Raise UsageError where a device cannot train as the recipe says, or its gradients could not be trusted."""
    if recipe.data.num_frames >= num_frames:
        raise UsageError(
            f"data.num_frames {recipe.data.num_frames}: expected at most {num_frames - 1}, the P-frames of a GOP"
        )
    if device.type != "cpu":
        return
    if recipe.optim.sync_batchnorm:
        raise UsageError("optim.sync_batchnorm on a CPU: torch has it for GPUs alone; set it to false")
    if recipe.run.precision == "16-mixed":
        raise UsageError("run.precision 16-mixed on a CPU: it needs a GPU; expected 32-true or bf16-mixed")
    is_small = num_frames < LEAST_BF16_FRAMES or recipe.data.crop_size < LEAST_BF16_CROP
    if recipe.run.precision == "bf16-mixed" and is_small:  # torch leaves some of their gradients unwritten
        raise UsageError(
            f"run.precision bf16-mixed on a CPU with {num_frames} frames of {recipe.data.crop_size} pixels: expected "
            f"at least {LEAST_BF16_FRAMES} of {LEAST_BF16_CROP}, since torch gets smaller ones wrong; use 32-true"
        )


def build_model(recipe: Recipe, num_classes: int) -> Network:
    """The recipe's network, in the memory order that its convolutions like best."""
    model, depth = recipe.model, recipe.model.depth
    if len(depth) != 4:
        raise UsageError(f"model.depth {list(depth)}: expected four numbers of units, such as [3, 4, 6, 3]")
    units = (depth[0], depth[1], depth[2], depth[3])
    channels = CLIP_FORMATS[recipe.data.clip_format].num_channels
    if model.network == MFNET3D:
        network = MFNet3D(num_classes, model.width, units, channels)
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload] # missing in torch's own types
        return network
    frames = FrameResNet(num_classes, model.network, model.width, units, channels)
    frames.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # the same
    return frames


def build_optimizer(optim: OptimRecipe, model: Network) -> Optimizer:
    """The recipe's optimizer, in two groups, backbone and classifier; each has its `factor` on the learning rate."""
    classifier = list(model.classifier.parameters())
    backbone = [parameter for name, parameter in model.named_parameters() if not name.startswith("classifier.")]
    groups = [{"params": backbone, "factor": optim.backbone_factor}, {"params": classifier, "factor": 1.0}]
    build = OPTIMIZERS[optim.optimizer]
    return build(groups, optim.learning_rate, optim.momentum, optim.weight_decay, nesterov=optim.nesterov)


def load_model(run: RunLog, fabric: Fabric, checkpoint: str = CHECKPOINT) -> Network:
    """The network of a run with the weights of one of its checkpoints, in eval mode, on the device.

    Call it under `fabric.autocast()`: it is no module of Fabric's, since those expect gradients from many devices.
    """
    state = load_checkpoint(run.folder, checkpoint)
    if UNAVERAGED in state:
        say(f"{run.folder}: weights are the moving average over steps (optim.ema_decay {run.recipe.optim.ema_decay})")
    model = build_model(run.recipe, len(run.classes))
    load_weights(model, state["model"], str(run.folder))
    return model.requires_grad_(requires_grad=False).to(fabric.device).eval()


def build_average(optim: OptimRecipe, network: Network, fabric: Fabric, num_steps: int) -> AveragedModel | None:
    """A moving average over steps of the weights and batch statistics of `network`, or None where none is asked for.

    It begins as `network` is now, after `num_steps` steps.
    """
    if not optim.ema_decay:
        return None
    lerp = get_ema_multi_avg_fn(optim.ema_decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=lerp, use_buffers=True)
    average.n_averaged.fill_(num_steps)
    return average.requires_grad_(requires_grad=False).to(fabric.device)


def setup(fabric: Fabric, network: Network, optimizer: Optimizer, optim: OptimRecipe) -> tuple[Network, Optimizer]:
    """Set a network and its optimizer up for steps on all devices: what comes back stands in for them."""
    if optim.sync_batchnorm and fabric.world_size > 1:
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # 1x1x1: both are the same
    model, optimizer = fabric.setup(network, optimizer)
    if isinstance(network, MFNet3D):
        model.mark_forward_method("forward_with_hints")
    return model, optimizer
