"""Downloads are whole, checked and resumed; archives stay inside their folder."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.file_server import Mirror, mirror
from helpers.fork_server import run_code

from tuner.data.download import CHUNK, TRIES, download, remote_size, unpack
from tuner.errors import FilesError

BODY = bytes(range(256)) * (CHUNK // 64)  # four chunks


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with mirror(files={"/a.bin": BODY}) as served:
        yield served


def md5(body: bytes) -> str:
    return f"md5:{hashlib.md5(body).hexdigest()}"


def fail_download(url: str, path: Path, digest: str = "") -> str:
    with pytest.raises(FilesError) as caught:
        download(url, path, digest=digest)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


def test_a_file_is_downloaded_and_its_progress_reported(server: Mirror, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    download(f"{server.url}/a.bin", tmp_path / "new" / "a.bin", progress=lambda done, of: seen.append((done, of)))
    assert (tmp_path / "new" / "a.bin").read_bytes() == BODY and names(tmp_path / "new") == ["a.bin"]
    assert (
        seen[0] == (0, len(BODY)) and seen[-1] == (len(BODY), len(BODY)) and seen == sorted(seen) and len(seen) > 3
    )


def test_a_file_that_is_there_is_not_fetched_again_unless_it_is_another(server: Mirror, tmp_path: Path) -> None:
    for _ in range(2):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", digest=md5(BODY))
    assert len(server.asked) == 1
    (tmp_path / "a.bin").write_bytes(b"damaged")
    download(f"{server.url}/a.bin", tmp_path / "a.bin", digest=md5(BODY))
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize("ranges", [True, False], ids=["Range", "no Range"])
def test_a_cut_connection_is_taken_up_again(server: Mirror, tmp_path: Path, ranges: bool) -> None:
    server.ranges, server.cuts = ranges, [CHUNK + 5, CHUNK]
    download(f"{server.url}/a.bin", tmp_path / "a.bin", digest=md5(BODY))
    assert (tmp_path / "a.bin").read_bytes() == BODY
    wanted = [asked[2] for asked in server.asked]
    assert wanted[:2] == ["", f"bytes={CHUNK + 5}-"] and len(wanted) == 3


def test_what_came_before_is_kept_for_the_next_command(server: Mirror, tmp_path: Path) -> None:
    server.cuts = [1000] * TRIES
    message = fail_download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert f"interrupted {TRIES} times" in message and "run the command again to continue" in message
    assert names(tmp_path) == ["a.bin.part"] and (tmp_path / "a.bin.part").stat().st_size == 1000 * TRIES
    download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY and server.asked[-1][2] == f"bytes={1000 * TRIES}-"


@pytest.mark.parametrize("had", [BODY, BODY + b"more"], ids=["whole", "too long"])
def test_a_part_with_nothing_left_to_fetch(server: Mirror, tmp_path: Path, had: bytes) -> None:
    (tmp_path / "a.bin.part").write_bytes(had)
    download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY and names(tmp_path) == ["a.bin"]


def test_a_wrong_digest_removes_the_file(server: Mirror, tmp_path: Path) -> None:
    message = fail_download(f"{server.url}/a.bin", tmp_path / "a.bin", "sha256:0123abcd")
    assert "its sha256 is" in message and "not 0123abcd" in message and "It was removed" in message
    assert names(tmp_path) == []


def test_the_start_of_a_digest_is_enough(server: Mirror, tmp_path: Path) -> None:
    download(f"{server.url}/a.bin", tmp_path / "a", digest=f"sha256:{hashlib.sha256(BODY).hexdigest()[:8]}")
    assert (tmp_path / "a").exists()


def test_a_file_the_server_has_not(server: Mirror, tmp_path: Path) -> None:
    assert (
        fail_download(f"{server.url}/gone", tmp_path / "a")
        == f"{server.url}/gone: the server answered 404 (Not Found)."
    )


def test_a_closed_port_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:  # bound and not listening: surely refused
        taken.bind(("127.0.0.1", 0))
        message = fail_download(f"http://127.0.0.1:{taken.getsockname()[1]}/a", tmp_path / "a")
    assert "no answer (Connection refused)" in message


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a", "/etc/passwd", "", "http://["])
def test_only_http_is_asked(url: str, tmp_path: Path) -> None:
    assert url in fail_download(url, tmp_path / "a") and names(tmp_path) == []


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/a", "file:///etc/passwd"])
def test_a_redirection_elsewhere_is_refused_and_one_to_http_followed(
    server: Mirror, tmp_path: Path, to: str
) -> None:
    server.moved = {"/away": to, "/old": "/a.bin"}
    fail_download(f"{server.url}/away", tmp_path / "a")
    download(f"{server.url}/old", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY


def test_too_little_space_is_reported_before_anything_is_written(server: Mirror, tmp_path: Path) -> None:
    server.claims = 10**18
    assert remote_size(f"{server.url}/a.bin") == 10**18
    message = fail_download(f"{server.url}/a.bin", tmp_path / "a")
    assert f"1000000000000 MB are needed in {tmp_path}" in message and names(tmp_path) == []


FULL = """
import resource, signal, sys
from pathlib import Path
from tuner.data.download import download
from tuner.errors import FilesError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    download(sys.argv[1], Path(sys.argv[2]))
except FilesError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_what_came_is_kept(server: Mirror, tmp_path: Path) -> None:
    done = run_code(FULL, f"{server.url}/a.bin", tmp_path / "a")
    assert done.stdout.startswith(f"the disk is full: could not write {tmp_path / 'a'}"), done.stderr
    assert done.stdout.count("\n") == 1 and names(tmp_path) == ["a.part"]
    download(f"{server.url}/a.bin", tmp_path / "a", digest=md5(BODY))
    assert server.asked[-1][2] == "bytes=300000-"


def make_zip(path: Path, *entries: str) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name in entries:
            packed.writestr(name, f"of {name}")
    return path


def make_tar(path: Path, *entries: str, **links: str) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for name in entries:
            info = tarfile.TarInfo(name)
            info.size = len(body := f"of {name}".encode())
            packed.addfile(info, io.BytesIO(body))
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            packed.addfile(link)
    return path


MAKERS = {"a.zip": make_zip, "a.tar.gz": make_tar}


@pytest.mark.parametrize("name", MAKERS)
def test_an_archive_is_unpacked_beside_what_is_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "to" / "other").mkdir(parents=True)
    (tmp_path / "to" / "images").mkdir()
    (tmp_path / "to" / "images" / "old.txt").touch()
    unpack(MAKERS[name](tmp_path / name, "images/one.txt", "images/deep/two.txt", "three.txt"), tmp_path / "to")
    assert names(tmp_path / "to") == ["images", "other", "three.txt"]
    assert names(tmp_path / "to" / "images") == ["deep", "one.txt"]
    assert (tmp_path / "to" / "images" / "deep" / "two.txt").read_text() == "of images/deep/two.txt"
    assert names(tmp_path) == [name, "to"]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("bad", ["../evil", "a/../../evil", "/tmp/evil", "C:/evil", "..\\evil"])
def test_a_name_that_points_outside_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, bad: str
) -> None:
    archive = MAKERS[name](tmp_path / name, "good.txt", bad)
    with pytest.raises(FilesError, match="is refused: it would write outside its folder"):
        unpack(archive, tmp_path / "to")
    assert names(tmp_path) == [name, "to"] and names(tmp_path / "to") == []


@pytest.mark.parametrize("target", ["/etc", "../..", "a/../../b"])
def test_a_link_that_points_outside_is_refused(tmp_path: Path, target: str) -> None:
    archive = make_tar(tmp_path / "a.tar.gz", "good.txt", link=target)
    with pytest.raises(FilesError, match="'link' is a link that points to"):
        unpack(archive, tmp_path / "to")
    assert names(tmp_path / "to") == []


def test_a_link_that_points_inside_is_kept(tmp_path: Path) -> None:
    unpack(make_tar(tmp_path / "a.tar.gz", "good.txt", link="good.txt"), tmp_path / "to")
    assert (tmp_path / "to" / "link").read_text() == "of good.txt"


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("harm", ["cut", "text", "flipped"])
def test_a_damaged_archive_is_named_and_removed(tmp_path: Path, name: str, harm: str) -> None:
    archive = MAKERS[name](tmp_path / name, *(f"images/{at}.txt" for at in range(50)))
    whole = archive.read_bytes()
    middle = len(whole) // 3
    flipped = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
    archive.write_bytes({"cut": whole[: len(whole) // 2], "text": b"<html>", "flipped": flipped}[harm])
    with pytest.raises(FilesError, match="is not a complete archive") as caught:
        unpack(archive, tmp_path / "to")
    assert "\n" not in str(caught.value) and names(tmp_path / "to") == [] and not archive.exists()
