"""Digits from idx files and from scikit-learn; every fault is one helpful line."""

import functools
import gzip
import hashlib
import http.server
import struct
import threading
import time

import pytest
import torch

from multitask.data import mnist as digits_module
from multitask.data.download import data_root, fetch
from multitask.data.idx import UNSIGNED_BYTE, read_idx
from multitask.data.mnist import enlarge, mnist, sklearn_digits
from multitask.runs.errors import UserError

IMAGES = torch.arange(3 * 28 * 28).remainder(251).to(torch.uint8).reshape(3, 28, 28)


def write_idx(path, values):
    """Write a uint8 tensor as an idx file, gzipped if its name ends in .gz."""
    header = struct.pack(f">4B{values.dim()}I", 0, 0, UNSIGNED_BYTE, values.dim(), *values.shape)
    content = header + values.numpy().tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def content_hash(path):
    content = path.read_bytes()
    return hashlib.sha256(gzip.decompress(content) if path.suffix == ".gz" else content).hexdigest()


@pytest.fixture(params=["images", "images.gz"])
def images(tmp_path, request):
    """A good file, plain or gzipped, and its content's hash."""
    path = tmp_path / request.param
    write_idx(path, IMAGES)
    return path, content_hash(path)


def test_round_trip(images):
    path, sha = images
    assert torch.equal(read_idx(path, (3, 28, 28), sha), IMAGES)


def test_the_layout_is_the_published_one(tmp_path):
    write_idx(tmp_path / "labels", torch.tensor([7, 2], dtype=torch.uint8))
    assert (tmp_path / "labels").read_bytes() == b"\x00\x00\x08\x01\x00\x00\x00\x02\x07\x02"


def refused(path, shape, sha, match):
    with pytest.raises(UserError, match=match) as error:
        read_idx(path, shape, sha)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_named(images):
    path, sha = images
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, (3, 28, 28), sha, "truncated")
    path.write_bytes(path.read_bytes()[:6])
    refused(path, (3, 28, 28), sha, "truncated|unknown")
    path.write_bytes(b"")
    refused(path, (3, 28, 28), sha, "nothing|truncated")


def test_a_file_that_is_too_long_is_named(tmp_path):
    path = tmp_path / "images"
    write_idx(path, IMAGES)
    path.write_bytes(path.read_bytes() + b"\x00")
    refused(path, (3, 28, 28), "", "too long")


@pytest.mark.parametrize("after", ["zeros", "streams", "name"])
def test_what_follows_a_gzip_stream_is_not_read(tmp_path, after):
    """Bug: Python's reader goes through terabytes of zeros, empty streams or a name's bytes."""
    path = tmp_path / "images.gz"
    write_idx(path, IMAGES)
    sha, content = content_hash(path), path.read_bytes()
    with path.open("wb") as file:
        if after == "name":
            file.write(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 10_000_000)
        else:
            file.write(content)
        if after == "streams":
            file.write(gzip.compress(b"") * 300_000)
        if after == "zeros":
            file.truncate(2**40)
    began = time.process_time()
    if after == "name":
        refused(path, (3, 28, 28), sha, "truncated or no gzip file")
    else:
        assert torch.equal(read_idx(path, (3, 28, 28), sha), IMAGES)
    assert time.process_time() - began < 1


def test_another_format_is_named(images, tmp_path):
    path, sha = images
    refused(path, (3,), sha, "no idx file of 1 dimensions: magic 00000803, not 00000801")
    page = tmp_path / "page.gz"
    page.write_bytes(b"<html>not found</html>")
    refused(page, (3, 28, 28), sha, "no gzip file")


def test_another_count_or_content_is_named(images):
    path, sha = images
    refused(path, (4, 28, 28), sha, r"holds an array of \(3, 28, 28\) values, not \(4, 28, 28\)")
    refused(path, (3, 28, 28), "0" * 64, "differs from the published file")


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """The four files with 5 and 3 images, `mnist` expecting just these."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    table = {}
    for name, (shape, _, _) in digits_module.MNIST_FILES.items():
        count = 5 if name.startswith("train") else 3
        path = folder / name
        values = (
            torch.arange(count)[:, None, None].expand(-1, 28, 28)
            if len(shape) == 3
            else torch.arange(count)
        )
        write_idx(path, values.to(torch.uint8))
        table[name] = ((count, *shape[1:]), "0" * 64, content_hash(path))
    monkeypatch.setattr(digits_module, "MNIST_FILES", table)
    monkeypatch.setattr(digits_module, "MIRRORS", ())
    mnist.cache_clear()
    yield tmp_path
    mnist.cache_clear()


def test_mnist_reads_plain_and_gzipped_files_alike(small_mnist):
    plain = mnist(small_mnist)
    assert [len(part) for part in (*plain.train, *plain.test)] == [5, 5, 3, 3]
    assert plain.train[0][4].unique().tolist() == plain.train[1][4:].tolist() == [4]
    path = small_mnist / "MNIST/raw/train-images-idx3-ubyte"
    (path.parent / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    mnist.cache_clear()
    packed = mnist(small_mnist)
    assert packed.sha256 == plain.sha256
    assert torch.equal(packed.train[0], plain.train[0])


def test_labels_that_do_not_belong_to_the_images_are_refused(small_mnist):
    path = small_mnist / "MNIST/raw/train-labels-idx1-ubyte"
    write_idx(path, torch.arange(4).to(torch.uint8))
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte holds an array of \(4,\)"):
        mnist(small_mnist)


def test_a_missing_file_says_what_to_put_where(small_mnist):
    (small_mnist / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        UserError, match=r"t10k-labels-idx1-ubyte.gz \(sha256 0+\) into .*raw, or point PCGRAD_DATA"
    ):
        mnist(small_mnist)


def test_the_published_checksums_are_64_digits_and_distinct():
    hashes = [
        sha
        for _, packed, unpacked in digits_module.MNIST_FILES.values()
        for sha in (packed, unpacked)
    ]
    assert len(set(hashes)) == 8
    assert all(len(sha) == 64 and int(sha, 16) for sha in hashes)
    assert len(digits_module.MIRRORS) >= 2


@pytest.fixture
def server(tmp_path):
    """A web server on this machine that serves the folder `site`."""
    (tmp_path / "site").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    web = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "site")
    )
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    yield tmp_path / "site", f"http://127.0.0.1:{web.server_port}/"
    web.shutdown()
    thread.join()
    web.server_close()


def test_the_first_mirror_with_the_right_content_serves(server, tmp_path):
    site, url = server
    for mirror, text in (("changed", b"another"), ("good", b"content")):
        (site / mirror).mkdir()
        (site / mirror / "file.gz").write_bytes(text)
    sha = hashlib.sha256(b"content").hexdigest()
    mirrors = [f"{url}absent/", f"{url}changed/", f"{url}good/"]
    path = fetch(tmp_path / "data", "file.gz", sha, mirrors)
    assert path == tmp_path / "data" / "file.gz"
    assert path.read_bytes() == b"content"
    with pytest.raises(UserError, match=r"HTTPError.*ValueError.*put file.gz"):
        fetch(tmp_path / "other", "file.gz", sha, mirrors[:2])
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize("there", [b"content", b"cont"])
def test_a_file_that_is_there_is_kept_if_it_is_whole(server, tmp_path, there):
    """Bug: an archive that somebody had put there, or that was not unpacked, was a traceback."""
    site, url = server
    (site / "file.gz").write_bytes(b"content")
    path = tmp_path / "file.gz"
    path.write_bytes(there)
    before = path.stat().st_ino
    fetch(tmp_path, "file.gz", hashlib.sha256(b"content").hexdigest(), [url])
    assert path.read_bytes() == b"content"
    assert (path.stat().st_ino == before) == (there == b"content")


def test_data_root_from_the_environment_wins(tmp_path, monkeypatch):
    monkeypatch.delenv("PCGRAD_DATA", raising=False)
    assert str(data_root("data")) == "data"
    monkeypatch.setenv("PCGRAD_DATA", str(tmp_path))
    assert data_root("data") == tmp_path
    monkeypatch.setenv("PCGRAD_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"PCGRAD_DATA=.*nowhere is no folder"):
        data_root("data")


def test_enlarging_is_bilinear():
    small = torch.randint(17, (4, 8, 8), generator=torch.Generator().manual_seed(0))
    oracle = torch.nn.functional.interpolate(
        small[:, None].double() * 255 / 16, size=(28, 28), mode="bilinear"
    )[:, 0]
    assert (enlarge(small, 16).double() - oracle).abs().max() <= 0.5 + 1e-9
    assert enlarge(torch.full((1, 8, 8), 16), 16).unique().tolist() == [255]


def test_sklearn_digits_are_split_once():
    found = sklearn_digits()
    assert [len(part) for part in (*found.train, *found.test)] == [1437, 1437, 360, 360]
    assert found.train[0].dtype == torch.uint8
    together = torch.cat([found.train[1], found.test[1]])
    assert together.bincount().tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]  # the published counts


def test_fashion_mnist_is_checked_by_content(tmp_path):
    """Bug: any four idx files pass for Fashion-MNIST, MNIST's among them."""
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    name = next(iter(digits_module.FASHION_FILES))
    write_idx(folder / name, IMAGES.repeat(20_000, 1, 1))
    with pytest.raises(UserError, match=name):
        digits_module.fashion_mnist(tmp_path)
