"""A network as a file for other runtimes: ONNX, OpenVINO, torch.export; each is written, and run as its users do."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from mfcd_core.errors import MfcdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn
    from torch.export import ExportedProgram

    Run = Callable[[NDArray[Any]], NDArray[Any]]

INPUT, OUTPUT = "clips", "logits"
KEY = "mfcd"
"""Under which every format holds the facts of the network, as JSON."""
EXTRA_FILE = f"{KEY}.json"  # torch.export names files instead
SINGLE_PRECISION: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}  # OpenVINO takes bfloat16 where the CPU has it


def trace_network(network: nn.Module, clips: torch.Tensor) -> ExportedProgram:
    """The graph of a network on the CPU in eval mode; `clips` are an example, (N, C, T, H, W), of any N above 1."""
    with _hushed():
        return torch.export.export(network, (clips,), dynamic_shapes=({0: torch.export.Dim("batch")},))


@contextmanager
def _hushed() -> Iterator[None]:
    """The exporters warn of what no user of ours can mend: their own deprecations, and packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _write_onnx(program: ExportedProgram, facts: str, path: Path) -> None:
    with _hushed():
        onnx = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: "batch"},),
            dynamo=True,
            verbose=False,
        )
    if onnx is None:
        raise MfcdError("torch wrote no ONNX: update torch and onnxscript")
    onnx.model.metadata_props[KEY] = facts
    onnx.save(path, external_data=False)


def _load_onnx(path: Path, num_threads: int) -> tuple[Run, str]:
    import onnxruntime  # noqa: PLC0415 - of mfcd[export]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    facts: str = session.get_modelmeta().custom_metadata_map[KEY]
    return lambda clips: session.run([OUTPUT], {INPUT: clips})[0], facts


def _openvino() -> Any:  # noqa: ANN401 - a module
    """OpenVINO without the package by which it reports over the network that it is used."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # cannot be imported then
    import openvino  # noqa: PLC0415 - of mfcd[export]

    return openvino


def _write_openvino(program: ExportedProgram, facts: str, path: Path) -> None:
    openvino = _openvino()
    with _hushed():
        model = openvino.convert_model(program)
    model.inputs[0].set_names({INPUT})
    model.outputs[0].set_names({OUTPUT})
    model.set_rt_info(facts, [KEY])
    clips: Any = program.example_inputs
    model.reshape([-1, *clips[0][0].shape[1:]])
    openvino.save_model(model, path, compress_to_fp16=False)


def _load_openvino(path: Path, num_threads: int) -> tuple[Run, str]:
    core = _openvino().Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", SINGLE_PRECISION | {"INFERENCE_NUM_THREADS": num_threads})
    return lambda clips: compiled({INPUT: clips})[OUTPUT], model.get_rt_info([KEY]).astype(str)


def _write_pt2(program: ExportedProgram, facts: str, path: Path) -> None:
    program.example_inputs = None  # clips of somebody's videos
    with _hushed():
        torch.export.save(program, path, extra_files={EXTRA_FILE: facts})


def _load_pt2(path: Path, num_threads: int) -> tuple[Run, str]:
    extra: dict[str, Any] = {EXTRA_FILE: ""}
    with _hushed():
        network = torch.export.load(path, extra_files=extra).module()

    if num_threads:
        torch.set_num_threads(num_threads)

    def run(clips: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            logits: NDArray[Any] = network(torch.from_numpy(clips)).numpy()
        return logits

    return run, extra[EXTRA_FILE]


@dataclass(frozen=True)
class ExportFormat:
    """One kind of file: its extension, those of files beside it, and the packages that write and run it.

    write: of a graph and its facts as JSON. load: by path and number of threads on a CPU (0: as the runtime likes), to
    what gives logits (N, classes) of clips (N, C, T, H, W), float32 both, and the facts.
    """

    extension: str
    companions: tuple[str, ...]
    packages: tuple[str, ...]
    write: Callable[[ExportedProgram, str, Path], None]
    load: Callable[[Path, int], tuple[Run, str]]

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.packages if find_spec(name) is None]

    def files(self, path: Path) -> list[Path]:
        """All files of an export to `path`, that one last: without it the others are nothing."""
        return [*(path.with_suffix(companion) for companion in self.companions), path]


EXPORT_FORMATS = {
    "onnx": ExportFormat(".onnx", (), ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _load_onnx),
    "openvino": ExportFormat(".xml", (".bin",), ("openvino",), _write_openvino, _load_openvino),
    "pt2": ExportFormat(".pt2", (), (), _write_pt2, _load_pt2),
}
