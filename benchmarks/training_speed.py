"""Where a segmenter's training step spends its time, and which precision and memory layout is fastest here.

    python benchmarks/training_speed.py --size 160 --batches 8
    python benchmarks/training_speed.py --size 160 --encoder efficientnet_lite0

Prints images per second for float32 and bfloat16, default and channels-last layout, as ratios to the first; then the
share of a step that goes to gathering and augmenting its batch: what is left is arithmetic of the network. One run, one
machine: quote the ratios. Nothing is decoded while training, so nothing here reads a file.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Literal, get_args

import torch

from tumor_cascade.data.augmentation import augment_batch
from tumor_cascade.data.cohort import CohortTensors
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.params import AugmentationParams
from tumor_cascade.training.losses import TverskyLoss

Encoder = Literal["residual", "efficientnet_lite0", "resnet50"]
WIDTHS = [16, 32, 64, 128, 256]
AUGMENTATION = AugmentationParams(
    flip_probability=0.5,
    max_rotation_deg=15.0,
    max_scale_change=0.1,
    max_gain_change=0.1,
    max_gamma_change=0.2,
    noise_std=0.03,
    sequence_drop_probability=0.15,
)


def make_cohort(num_slices: int, size: int) -> CohortTensors:
    """Return random slices of one volume."""
    return CohortTensors(
        images=torch.rand(num_slices, 3, size, size),
        masks=torch.rand(num_slices, 1, size, size) > 0.99,
        has_tumor=torch.ones(num_slices, dtype=torch.bool),
        position=torch.arange(num_slices),
        num_slices=torch.full((num_slices,), num_slices),
        patient=torch.zeros(num_slices, dtype=torch.int64),
        has_neighbor_slices=False,
    )


def time_calls(call: Callable[[], None], num: int) -> float:
    """Return the median seconds of a call, after one that does not count."""
    call()
    times = []
    for _ in range(num):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def make_step(
    cohort: CohortTensors,
    encoder: Encoder,
    batch_size: int,
    is_bf16: bool,
    layout: torch.memory_format,
) -> Callable[[], None]:
    """Return a whole training step: gather, augment, forward, backward, update."""
    network = ResUNet(3, WIDTHS, encoder, has_slice_head=False, has_deep_supervision=False)
    network = network.to(memory_format=layout).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    loss = TverskyLoss(
        fp_weight=0.5, fn_weight=0.5, focal_exponent=1.0, smoothing=1.0, reduction="per_image", cross_entropy_weight=5.0
    )

    def step() -> None:
        images, masks = augment_batch(*cohort.gather(torch.randint(len(cohort.images), (batch_size,))), AUGMENTATION)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bf16):
            logits = network(images.contiguous(memory_format=layout))
        loss(logits, masks).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=160, help="input size in px")
    parser.add_argument("--encoder", choices=get_args(Encoder), default="residual", help="of the ResUNet")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batches", type=int, default=8, help="timed steps per row")
    args = parser.parse_args()
    cohort = make_cohort(64, args.size)
    first = None
    for is_bf16 in (False, True):
        for layout in (torch.contiguous_format, torch.channels_last):
            seconds = time_calls(make_step(cohort, args.encoder, args.batch_size, is_bf16, layout), args.batches)
            first = first or seconds
            name = f"{'bf16' if is_bf16 else 'fp32'} {str(layout).removeprefix('torch.')}"
            print(f"{name:24} {args.batch_size / seconds:7.1f} images/s  x{first / seconds:.2f}")
    index = torch.arange(args.batch_size)
    preparing = time_calls(lambda: augment_batch(*cohort.gather(index), AUGMENTATION) and None, args.batches)
    print(f"gather and augment: {100 * preparing / seconds:.0f} % of the last row's step")


if __name__ == "__main__":
    main()
