"""A training step shared by processes of their own, as several GPUs share it."""

import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainings import make_module

NO_AUGMENTATION = dict.fromkeys(
    (
        "flip_probability",
        "max_rotation_deg",
        "max_scale_change",
        "max_gain_change",
        "max_gamma_change",
        "noise_std",
        "sequence_drop_probability",
    ),
    0.0,
)
BATCH = torch.arange(8)


class Step(nn.Module):
    """A training step as a module's forward, which is what gradients are averaged over."""

    def __init__(self, role: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.training_module = make_module(role, {"augmentation": NO_AUGMENTATION})
        self.train()
        for part in self.modules():  # statistics of the batch would differ by the share of it that a process sees
            if isinstance(part, (nn.BatchNorm2d, nn.Dropout)):
                part.eval()

    def forward(self, index: Tensor) -> Tensor:
        return self.training_module.training_step(index, 0)


def measure_share(role: str, rank: int, num_processes: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=num_processes
    )
    step = DistributedDataParallel(Step(role))
    step(BATCH[rank::num_processes]).backward()
    if rank == 0:
        gradients = {
            name: value.grad.contiguous() for name, value in step.module.named_parameters() if value.grad is not None
        }
        save_file(gradients, folder / "gradients.safetensors")
    torch.distributed.barrier()
    # Not taken down: gloo's threads may want the interpreter's lock from whoever waits for them to end.
    os._exit(0)
