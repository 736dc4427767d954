"""Load for the demo model: `locust -f loadtests/locustfile.py --host http://127.0.0.1:8000`, beside `make serve`.

Locust itself costs far more per request than the server does: it shows how the server behaves under many users, not
how fast it is. For that there is `make bench`.
"""

import json
import struct
from typing import Any

from locust import FastHttpUser, between, task

INFER = "/v2/models/demo/infer"
# A seven, as grey values from 0 to 16.
SEVEN = [
    *(0, 0, 2, 13, 16, 9, 0, 0),
    *(0, 0, 12, 12, 7, 16, 3, 0),
    *(0, 1, 14, 3, 0, 16, 4, 0),
    *(0, 0, 0, 4, 10, 16, 6, 0),
    *(0, 0, 0, 13, 16, 16, 9, 0),
    *(0, 0, 0, 5, 13, 1, 0, 0),
    *(0, 0, 0, 11, 9, 0, 0, 0),
    *(0, 0, 1, 16, 4, 0, 0, 0),
]
IMAGE = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32"}
PIXELS = struct.pack("<64f", *SEVEN)
JSON_BODY = json.dumps({"inputs": [{**IMAGE, "data": SEVEN}], "outputs": [{"name": "digit"}]})
BINARY_HEAD = json.dumps(
    {
        "inputs": [{**IMAGE, "parameters": {"binary_data_size": len(PIXELS)}}],
        "outputs": [{"name": "digit", "parameters": {"binary_data": True}}],
    }
).encode()


class Reader(FastHttpUser):
    """Somebody who has a digit read now and then."""

    wait_time = between(0.01, 0.1)

    @task(2)
    def read_json(self) -> None:
        """One image as JSON."""
        headers = {"Content-Type": "application/json"}
        with self.client.post(INFER, data=JSON_BODY, headers=headers, name="JSON", catch_response=True) as answer:
            if answer.status_code == 200 and answer.json()["outputs"][0]["data"] != [7]:
                answer.failure("a seven was not read as a seven")

    @task(1)
    def read_binary(self) -> None:
        """The same image with the binary tensor extension."""
        headers = {"Inference-Header-Content-Length": str(len(BINARY_HEAD))}
        body: Any = BINARY_HEAD + PIXELS  # Locust's annotation knows text only; bytes go as they are.
        with self.client.post(INFER, data=body, headers=headers, name="binary", catch_response=True) as answer:
            if answer.status_code == 200 and not answer.content.endswith(struct.pack("<q", 7)):
                answer.failure("a seven was not read as a seven")
