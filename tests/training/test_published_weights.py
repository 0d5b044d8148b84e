import hashlib
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tumor_cascade.errors import DataError
from tumor_cascade.training.published_weights import PUBLISHED, PublishedWeights, fetch_imagenet, read_weights


def make_weights() -> dict[str, torch.Tensor]:
    # As published: parameters with gradients beside plain buffers.
    return {
        "conv1.weight": torch.nn.Parameter(torch.arange(12.0).view(3, 4)),
        "bn1.running_mean": torch.arange(4.0),
        "bn1.num_batches_tracked": torch.tensor(7),
    }


def serialize(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@dataclass
class Server:
    """A file server on the loopback that says what it is told to say."""

    url: str
    body: bytes = b""
    status: int = 200
    missing_bytes: int = 0  # announced but never sent
    raw_answer: bytes = b""  # sent instead of an HTTP answer
    requests: list[str] = field(default_factory=list)
    num_sent: int = 0


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            if state.raw_answer:
                self.wfile.write(state.raw_answer)
                return
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(state.body) + state.missing_bytes))
            self.end_headers()
            try:
                for start in range(0, len(state.body), 1 << 16):
                    state.num_sent += self.wfile.write(state.body[start : start + (1 << 16)])
            except ConnectionError:
                pass  # the client has heard enough

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{httpd.server_port}/resnet18.pth")
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TUMOR_CASCADE_WEIGHTS", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


def publish(monkeypatch: pytest.MonkeyPatch, url: str, body: bytes) -> str:
    """Let the known download be these bytes at this address; return their SHA-256."""
    sha256 = hashlib.sha256(body).hexdigest()
    monkeypatch.setitem(PUBLISHED, "resnet18", PublishedWeights(url, sha256, len(body)))
    return sha256


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_fetch_imagenet__downloads_and_converts_once(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body = serialize(make_weights())
    sha256 = publish(monkeypatch, server.url, server.body)
    first = fetch_imagenet("resnet18")
    path, digest = first
    assert digest == sha256  # of the published bytes, so it is known without a download
    assert list_files(cache) == [path.name] == [f"resnet18-imagenet-{sha256[:8]}.safetensors"]
    loaded = load_file(path)
    assert {name: value.tolist() for name, value in loaded.items()} == {
        name: value.tolist() for name, value in make_weights().items()
    }
    assert fetch_imagenet("resnet18") == first
    assert server.requests == ["/resnet18.pth"]


def test_fetch_imagenet__other_bytes_are_refused(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = publish(monkeypatch, server.url, serialize(make_weights()))
    server.body = serialize({"conv1.weight": torch.zeros(3)})
    with pytest.raises(DataError) as raised:
        fetch_imagenet("resnet18")
    text = str(raised.value)
    for part in ("ImageNet weights", f"must be {sha256[:16]}", server.url, "initialization in params.yaml", "none"):
        assert part in text
    assert list_files(cache) == []


def test_fetch_imagenet__stops_reading_beyond_the_known_size(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, server.url, b"x" * 1000)
    server.body = b"x" * (64 << 20)
    with pytest.raises(DataError, match="bytes with SHA-256"):
        fetch_imagenet("resnet18")
    assert server.num_sent < 32 << 20
    assert list_files(cache) == []


@pytest.mark.parametrize(
    "answer", [{"status": 404}, {"status": 503}, {"missing_bytes": 10}, {"raw_answer": b"no HTTP\r\n\r\n"}]
)
def test_fetch_imagenet__a_server_that_does_not_deliver(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    body = serialize(make_weights())
    publish(monkeypatch, server.url, body)
    server.body = body[:-10]
    for name, value in answer.items():
        setattr(server, name, value)
    with pytest.raises(DataError, match=r"(?s)ImageNet weights: .*Fetch http.* yourself"):
        fetch_imagenet("resnet18")
    assert list_files(cache) == []


def test_fetch_imagenet__no_server_is_no_silent_fallback(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "http://127.0.0.1:9/resnet18.pth", b"x")
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/resnet18\.pth cannot be reached .*Fetch"):
        fetch_imagenet("resnet18")
    assert list_files(cache) == []


def test_fetch_imagenet__published_addresses_name_their_digest() -> None:
    # torchvision's file names end in the first 8 digits of the SHA-256.
    for name, published in PUBLISHED.items():
        assert published.url == f"https://download.pytorch.org/models/{name}-{published.sha256[:8]}.pth"
        assert len(published.sha256) == 64 and published.num_bytes > 40_000_000


def test_fetch_imagenet__lite0_comes_as_a_package() -> None:
    path, digest = fetch_imagenet("efficientnet_lite0")
    # SHA-256 of the file in version 0.1.0, the only one.
    assert digest == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert len(read_weights(path)) == 296


def test_read_weights__either_format(tmp_path: Path) -> None:
    weights = {name: value.detach() for name, value in make_weights().items()}
    torch.save(make_weights(), tmp_path / "a.pth")
    save_file(weights, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        found = read_weights(tmp_path / name)
        assert all(torch.equal(found[key], weights[key]) for key in weights) and len(found) == 3


class Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("run-by-weights",)


def test_read_weights__runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Code()}, "evil.pth")
    with pytest.raises(DataError, match=r"weights evil\.pth cannot be read \(UnpicklingError\).*Convert the file"):
        read_weights(Path("evil.pth"))
    assert list_files(tmp_path) == ["evil.pth"]


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02]q\x00.", serialize(make_weights())[:400]])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_read_weights__damaged_file(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"weights damaged{suffix} (cannot be read|hold more than tensors)"):
        read_weights(path)


@pytest.mark.parametrize("value", [{"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, [torch.zeros(1)], torch.zeros(1)])
def test_read_weights__something_else_than_a_state_dict(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"weights other\.pth hold more than tensors; must be a state dict"):
        read_weights(tmp_path / "other.pth")
