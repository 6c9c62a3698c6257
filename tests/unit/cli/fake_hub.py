"""The part of the Hugging Face Hub's HTTP API that an upload uses, on 127.0.0.1.

Repositories are kept in memory as a list of commits; large files as bytes by their sha256. `fail` makes the
next requests to a path fail.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = (".parquet", ".mp4")


class Repository:
    def __init__(self, private):
        self.private = private
        self.commits = [{".gitattributes": b""}]
        self.messages = ["initial commit"]
        self.tags = {}

    @property
    def files(self):
        return self.commits[-1]

    @staticmethod
    def oid(number):
        return f"{number:040x}"


class FakeHub:
    """Use as a context manager; `endpoint` is its address."""

    def __init__(self, token="hf_test"):
        self.token = token
        self.user = "tester"
        self.repositories = {}
        self.blobs = {}
        self.requests = []
        self.sent_bytes = 0
        self.held = None
        self._failures = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="fake-hub", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    @staticmethod
    def hang_up():
        """Close the connections that huggingface_hub keeps; each keeps a thread of the server."""
        from huggingface_hub.utils import close_session

        close_session()

    def __exit__(self, *error):
        if self.held is not None:
            self.held.set()
        self.hang_up()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(self, path, status, times=1):
        """Answer the next `times` requests whose 'METHOD path' matches with a status."""
        self._failures += [(re.compile(path), status)] * times

    def hold(self, path):
        """Let requests whose 'METHOD path' matches wait; returns the event that says one does."""
        self.held, arrived = threading.Event(), threading.Event()
        self._held_path, self._arrived = re.compile(path), arrived
        return arrived

    def answer(self, request, method, path, body):
        line = f"{method} {path}"
        self.requests.append(line)
        if self.held is not None and self._held_path.search(line):
            self._arrived.set()
            self.held.wait()
        for failure in self._failures:
            if failure[0].search(line):
                self._failures.remove(failure)
                return failure[1], {"error": "made to fail"}
        if path.startswith("/blobs/"):
            oid = path.removeprefix("/blobs/")
            assert hashlib.sha256(body).hexdigest() == oid
            self.blobs[oid] = body
            self.sent_bytes += len(body)
            return 200, {}
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {"error": "Invalid username or password."}
        data = json.loads(body) if body and "ndjson" not in request.headers.get("Content-Type", "") else None
        if path == "/api/repos/create":
            return self._create(data)
        if path == "/api/validate-yaml":
            assert data["repoType"] == "dataset"
            return 200, {"errors": [], "warnings": []}
        if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return 200, {"transfer": "basic", "objects": [self._lfs(o) for o in data["objects"]]}
        match = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/(\w+)(?:/([^/?]+))?(?:\?.*)?", path)
        if match is None or match[1] not in self.repositories:
            return 404, {"error": "Repository not found"}
        repository = self.repositories[match[1]]
        return getattr(self, f"_{method.lower()}_{match[2]}")(repository, match[3], data or body)

    def _create(self, data):
        name = f"{data.get('organization') or self.user}/{data['name']}"
        assert data["type"] == "dataset"
        if name in self.repositories:
            return 409, {"error": "You already created this repo", "url": f"{self.endpoint}/datasets/{name}"}
        private = data.get("private", data.get("visibility"))
        self.repositories[name] = Repository({"private": True, "public": False}.get(private, private))
        return 200, {"url": f"{self.endpoint}/datasets/{name}", "name": name, "id": name}

    def _lfs(self, wanted):
        answer = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in self.blobs:
            answer["actions"] = {"upload": {"href": f"{self.endpoint}/blobs/{wanted['oid']}"}}
        return answer

    def _post_preupload(self, repository, revision, data):
        assert revision == "main"
        return 200, {"files": [self._mode(repository, f["path"]) for f in data["files"]]}

    @staticmethod
    def _mode(repository, path):
        mode = "lfs" if path.endswith(LARGE) else "regular"
        answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        if path in repository.files:
            content = repository.files[path]
            if mode == "lfs":
                answer["oid"] = hashlib.sha256(content).hexdigest()
            else:
                answer["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return answer

    def _post_commit(self, repository, revision, body):
        assert revision == "main"
        files, lines = dict(repository.files), [json.loads(line) for line in body.splitlines()]
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del files[value["path"]]
        repository.commits.append(files)
        repository.messages.append(lines[0]["value"]["summary"])
        oid = repository.oid(len(repository.commits) - 1)
        url = f"{self.endpoint}/datasets/{self._name(repository)}/commit/{oid}"
        return 200, {"commitOid": oid, "commitUrl": url, "success": True}

    def _get_tree(self, repository, revision, data):
        return 200, [
            {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
            for path, content in repository.files.items()
        ]

    def _get_revision(self, repository, revision, data):
        return 200, {"id": self._name(repository), "sha": repository.oid(len(repository.commits) - 1)}

    def _name(self, repository):
        return next(name for name, value in self.repositories.items() if value is repository)

    def _post_tag(self, repository, revision, data):
        repository.tags[data["tag"]] = revision
        return 200, {}

    def _delete_tag(self, repository, tag, data):
        if tag not in repository.tags:
            return 404, {"error": "Invalid rev id", "code": "RevisionNotFound"}
        del repository.tags[tag]
        return 200, {}

    def _handler(hub):  # noqa: N805 - `self` is the request inside
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                try:
                    status, answer = hub.answer(self, self.command, self.path, body)
                except Exception as error:  # noqa: BLE001 - the test sees it in the answer
                    status, answer = 400, {"error": f"the fake hub: {error!r}"}
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                if status >= 400:
                    self.send_header("X-Error-Message", str(answer["error"]))
                    if "code" in answer:
                        self.send_header("X-Error-Code", answer["code"])
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815

            def log_message(self, *args):
                pass

        return Handler
