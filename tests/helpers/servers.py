"""Servers with OpenAI's interface: a made-up one that misbehaves, and LLaMA-Factory's own."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.sampling.loop import Counts
from solopo_llamafactory.sampling.server import ServerSampler
from tests.helpers.runs import ROOT, command_environment
from tests.helpers.sampling import arguments, sample


class FakeServer:
    """Answers chat requests; `misbehave(request, number)` may return (status, object) or raise instead."""

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.models_status = 200
        self.models: list[dict] = []
        self.misbehave = lambda request, number: None
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                self.reply(fake.models_status, {"object": "list", "data": fake.models})

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append(request)
                fake.keys.append(self.headers["Authorization"])
                status, body = fake.misbehave(request, len(fake.requests)) or (200, fake.completion(request))
                self.reply(status, body)

            def reply(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # clients that hung up

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def completion(self, request: dict, count: int | None = None, **changes) -> dict:
        """The answer to a request; each choice tells the request's number."""
        choice = {
            "message": {"role": "assistant", "content": f"answer {request.get('seed')}"},
            "finish_reason": "stop",
            **changes,
        }
        choices = [{"index": i, **choice} for i in range(count or request["n"])]
        return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}


def server_arguments(tmp_path, url: str, **changes) -> BuildArguments:
    values = {"model_name_or_path": "the/model", "n": 5, "samples_per_call": 2, "max_retries": 2, "concurrency": 2}
    return arguments(tmp_path, infer_backend="openai", base_url=url, **{**values, **changes})


def run_server(args: BuildArguments) -> Counts:
    """All contexts asked of the server."""
    return sample(args, ServerSampler(args), lambda row, samples: False, wanted=1)


@contextmanager
def host_api(model: str, log):
    """`llamafactory-cli api` with a tiny model on a free port; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = command_environment(API_HOST="127.0.0.1", API_PORT=str(port), API_VERBOSE="0")
    command = ["llamafactory-cli", "api", "--model_name_or_path", model, "--template", "qwen"]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).close()
                break
            except OSError:
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
