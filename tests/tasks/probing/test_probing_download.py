"""Downloads from hosts that misbehave, archives that are hostile (F32, F33), and no connection when offline (F34)."""

from __future__ import annotations

import hashlib
import io
import re
import stat
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks.common.errors import UserError
from tasks.miniature.broden import export
from tasks.probing import __main__ as command
from tasks.probing.broden import open_broden
from tasks.probing.download import Archive, Patience, fetch
from tasks.probing.unpack import Limits, unpack

DATA = bytes(range(256)) * 4000
MD5 = hashlib.md5(DATA).hexdigest()
QUICK = Patience(timeout=1.0, window=0.2, least_rate=100_000)

pytestmark = [pytest.mark.allow_hosts(["127.0.0.1"])]


class Handler(BaseHTTPRequestHandler):
    """Each path behaves in its own way; ``server.seen`` lists the requests."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        begin = int((re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, "0"])[1])
        self.server.seen.append((self.path, begin))
        kind = self.path.strip("/").split("/")[0]
        if kind in ("absent", "forbidden"):
            return self.send_error(404 if kind == "absent" else 403)
        if kind in ("elsewhere", "here", "weak"):
            port = self.server.server_port
            places = {"elsewhere": f"http://localhost:{port}/good", "here": f"http://127.0.0.1:{port}/good"}
            self.send_response(302)
            self.send_header("Location", places.get(kind, "ftp://127.0.0.1/good"))
            return self.end_headers()
        body = DATA[:-1] + b"!" if kind == "wrong" else self.server.body
        resumed = begin > 0 and kind != "whole"
        body = body[begin:] if resumed else body
        self.send_response(206 if resumed else 200)
        self.send_header("Content-Length", str(len(body)))
        if resumed:
            place = begin + 1 if kind == "misplaced" else begin
            self.send_header("Content-Range", f"bytes {place}-{len(self.server.body) - 1}/{len(self.server.body)}")
        self.end_headers()
        if kind in ("cut", "misplaced", "whole") and len(self.server.seen) == 1:
            self.wfile.write(body[: len(body) // 3])
        elif kind == "always_cut":
            self.wfile.write(body[:1000])
        elif kind == "silent":
            time.sleep(1.5)
        elif kind == "crawl":
            for place in range(0, 100):
                self.wfile.write(body[place : place + 1])
                time.sleep(0.02)
        else:
            self.wfile.write(body)
        return None


@contextmanager
def serving(body=DATA):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.seen = body, []
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def archive(*sources, md5=MD5):
    return Archive("set.zip", sources, "Put set.zip there by hand.", md5)


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["good", "here"])
def test_a_good_source_and_a_redirect_within_it(tmp_path, kind):
    with serving() as (server, url):
        assert fetch(archive(f"{url}/{kind}"), tmp_path / "new").read_bytes() == DATA
        count = len(server.seen)
        assert fetch(archive(f"{url}/{kind}"), tmp_path / "new").read_bytes() == DATA
        assert len(server.seen) == count  # what is there is not fetched again
    assert leftovers(tmp_path / "new") == ["set.zip"]


def test_a_cut_connection_is_resumed(tmp_path):
    said = []
    with serving() as (server, url):
        assert fetch(archive(f"{url}/cut"), tmp_path, say=said.append).read_bytes() == DATA
        assert server.seen == [("/cut", 0), ("/cut", len(DATA) // 3)]
    assert any("continuing from there" in text for text in said)


def test_a_host_that_cannot_resume_starts_again(tmp_path):
    with serving() as (server, url):
        assert fetch(archive(f"{url}/whole"), tmp_path).read_bytes() == DATA
        assert [begin for _, begin in server.seen] == [0, len(DATA) // 3]


def test_a_killed_download_goes_on_where_it_was(tmp_path):
    with serving() as (server, url):
        source = f"{url}/good"
        part = tmp_path / f"set.zip.{hashlib.sha256(source.encode()).hexdigest()[:8]}.part"
        part.write_bytes(DATA[:5000])
        assert fetch(archive(source), tmp_path).read_bytes() == DATA
        assert server.seen == [("/good", 5000)]
    assert leftovers(tmp_path) == ["set.zip"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("absent", "answers 404"),
        ("forbidden", "answers 403"),
        ("wrong", f"has MD5 .* not the published {MD5}"),
        ("elsewhere", r"redirects to another host \(localhost\)"),
        ("weak", "redirects to ftp, which is refused"),
        ("always_cut", "ended after"),
        ("misplaced", "continues at a different offset"),
        ("silent", "sent nothing for 1 s"),
        ("crawl", "sends less than 100000 bytes per second"),
    ],
)
def test_a_bad_source_leaves_nothing_and_the_next_is_tried(tmp_path, kind, words):
    said = []
    with serving() as (_, url):
        bad, good = f"{url}/{kind}", f"{url}/good"
        assert fetch(archive(bad, good), tmp_path, patience=QUICK, say=said.append).read_bytes() == DATA
    assert re.search(f"{bad} {words}", "\n".join(said))
    assert leftovers(tmp_path) == ["set.zip"]


def test_when_all_fail_the_message_lists_them_and_the_manual_way(tmp_path):
    with serving() as (server, url):
        closed = "http://127.0.0.1:9"
        with pytest.raises(UserError) as caught:
            fetch(archive(f"{url}/absent", f"{url}/wrong", closed, "ftp://127.0.0.1/x"), tmp_path, patience=QUICK)
        assert len(server.seen) == 2
    message = str(caught.value)
    for words in (f"{url}/absent answers 404", f"{url}/wrong has MD5", f"{closed} cannot be reached", "neither http"):
        assert words in message
    assert message.endswith("Put set.zip there by hand.")
    assert "\n" not in message
    assert leftovers(tmp_path) == []


def test_a_file_beyond_the_limit_is_not_taken(tmp_path):
    with serving() as (_, url), pytest.raises(UserError, match=r"would send 1,024,000 bytes, more than 1,000"):
        fetch(archive(f"{url}/good"), tmp_path, patience=Patience(most_bytes=1000))
    assert leftovers(tmp_path) == []


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cannot be written.*choose another folder"):
        fetch(archive("http://127.0.0.1:9"), tmp_path / "file")


def test_without_a_published_checksum_the_first_download_is_recorded(tmp_path):
    with serving() as (_, url):
        fetch(archive(f"{url}/good", md5=None), tmp_path)
        assert (tmp_path / "set.zip.sha256").read_text().strip() == hashlib.sha256(DATA).hexdigest()
        (tmp_path / "set.zip").unlink()
        with pytest.raises(UserError, match="as recorded in"):
            fetch(archive(f"{url}/wrong", md5=None), tmp_path)
        fetch(archive(f"{url}/wrong", f"{url}/good", md5=None), tmp_path)
    (tmp_path / "set.zip").write_bytes(b"flipped")
    with pytest.raises(UserError, match=r"has SHA-256 .* as recorded in .*; remove it"):
        fetch(archive("http://127.0.0.1:9", md5=None), tmp_path)


def test_offline_opens_no_connection(tmp_path, monkeypatch, capsys):
    def opened(*arguments):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", opened)
    monkeypatch.setattr("socket.getaddrinfo", opened)
    with pytest.raises(UserError, match=r"set\.zip is missing, and --offline .*http://a/b, http://c/d.*by hand"):
        fetch(archive("http://a/b", "http://c/d"), tmp_path / "new", offline=True, opener=opened)
    assert not (tmp_path / "new").exists()
    assert command.main(["broden", "--out", str(tmp_path), "--offline"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(host in said for host in ("netdissect.csail.mit.edu", "data.csail.mit.edu", "web.archive.org"))


def zipped(path, entries):
    with zipfile.ZipFile(path, "w") as opened:
        for entry, content in entries:
            opened.writestr(entry, content)
    return path


def test_broden_is_fetched_unpacked_and_opened(tmp_path, monkeypatch, capsys):
    export(tmp_path / "made", "probe", 1)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for path in sorted((tmp_path / "made").rglob("*")):
            opened.write(path, f"broden1_227/{path.relative_to(tmp_path / 'made')}")
    with serving(content.getvalue()) as (server, url):
        monkeypatch.setattr(command, "_HOSTS", (f"{url}/absent/{{name}}", f"{url}/good/{{name}}"))
        out = tmp_path / "data with spaces"
        assert command.main(["broden", "--size", "227", "--out", str(out)]) == 0
        assert command.main(["broden", "--size", "227", "--out", str(out)]) == 0
        assert [path for path, _ in server.seen] == ["/absent/broden1_227.zip", "/good/broden1_227.zip"]
    assert "is ready" in capsys.readouterr().out
    assert len(open_broden(out / "broden1_227", "CC0")) == 1
    assert leftovers(out) == ["broden1_227", "broden1_227.zip", "broden1_227.zip.sha256"]


def link():
    entry = zipfile.ZipInfo("set/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("set/../../canary", "x")], "leads out of it"),
        ([("../canary", "x")], "leads out of it"),
        ([("/tmp/canary", "x")], "leads out of it"),
        ([("set\\..\\..\\canary", "x")], "leads out of it"),
        ([("C:/canary", "x")], "leads out of it"),
        ([(link(), "/etc")], "is a link or device"),
        ([("set/a", b"0" * 2000)], "of 2,000 bytes, more than 1,000"),
        ([(f"set/{n}", b"0" * 900) for n in range(4)], "unpacks to more than 3,000"),
        ([(f"set/{n}", b"") for n in range(7)], "holds 7 entries, more than 6"),
        ([("other/a", "x")], "holds no folder 'set'"),
    ],
)
def test_hostile_archives_are_refused_whole(tmp_path, entries, words):
    path = zipped(tmp_path / "a.zip", [("set/first", "good"), *entries] if len(entries) == 1 else entries)
    if "no folder" in words:
        path = zipped(tmp_path / "a.zip", entries)
    (tmp_path / "into").mkdir()
    with pytest.raises(UserError, match=words) as caught:
        unpack(path, "set", tmp_path / "into", Limits(6, 1000, 3000))
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path / "into") == []
    assert leftovers(tmp_path) == ["a.zip", "into"]


def test_an_archive_that_lies_about_a_size_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", [("set/a", b"0" * 5000)])
    whole = path.read_bytes()
    path.write_bytes(whole.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(UserError, match=r"broken|larger than it says"):
        unpack(path, "set", tmp_path / "into", Limits(6, 1000, 3000))
    assert leftovers(tmp_path / "into") == []


def test_a_sound_archive_is_unpacked_and_a_broken_one_is_not(tmp_path):
    path = zipped(tmp_path / "a.zip", [("set/", ""), ("set/deep/a.txt", "hello"), ("README", "beside")])
    assert (unpack(path, "set", tmp_path / "into") / "deep/a.txt").read_text() == "hello"
    assert leftovers(tmp_path / "into") == ["set"]
    with pytest.raises(UserError, match="exists already"):
        unpack(path, "set", tmp_path / "into")
    path.write_bytes(path.read_bytes().replace(b"hello", b"hullo"))
    with pytest.raises(UserError, match="broken"):
        unpack(path, "set", tmp_path / "other")
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="broken"):
        unpack(path, "set", tmp_path / "other")
    assert leftovers(tmp_path / "other") == []
