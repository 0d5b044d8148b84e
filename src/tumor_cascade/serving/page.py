"""The page for people: its files, all from this package, and made-up slices to try it with."""

import functools
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tumor_cascade.data.phantom import generate_patient
from tumor_cascade.data.preprocessing import FLAIR
from tumor_cascade.overlay import measure_white
from tumor_cascade.params import PhantomParams
from tumor_cascade.serving.answers import write_png

FOLDER = Path(__file__).parent / "page_files"
ASSETS = {
    "/": ((FOLDER / "page.html").read_bytes(), "text/html"),
    "/page.css": ((FOLDER / "page.css").read_bytes(), "text/css"),
    "/page.js": ((FOLDER / "page.js").read_bytes(), "text/javascript"),
    "/favicon.ico": ((FOLDER / "icon.svg").read_bytes(), "image/svg+xml"),
}
SAMPLES = PhantomParams(num_patients=4, num_slices=8, image_size_px=128, seed=20261124)
SAMPLE_PATIENTS = {"Patient A": 1, "Patient B": 2}  # nobody's: they are generated
THUMBNAIL_PX = 64


@functools.cache
def list_samples() -> bytes:
    """Return JSON of made-up volumes: `[{"name", "slices": [{"image", "thumbnail"}]}]`, images as base64 of PNG."""
    samples = []
    for name, number in SAMPLE_PATIENTS.items():
        images = np.stack([one.image for one in generate_patient(SAMPLES, number).slices])
        white = measure_white(images[:, FLAIR])
        slices = []
        for image in images:
            level = np.clip(image[FLAIR] / white * 255, 0, 255).astype(np.uint8)
            small = Image.fromarray(level).resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
            whole = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
            slices.append({"image": write_png(whole), "thumbnail": write_png(small)})
        samples.append({"name": name, "slices": slices})
    return json.dumps(samples).encode()
