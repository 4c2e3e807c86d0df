"""Checkpoints in a bucket of S3, on a server on this machine."""

import fsspec
import numpy as np
import pytest
from foreign import put

from pico_analyze.stores.opening import open_store

moto = pytest.importorskip("moto.server", reason="make test-ecosystem installs moto and s3fs")
Q, STORED = "layers.1.attn.q", "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def s3():
    """An S3 server on this machine, and the file system that speaks to it."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "never-shown"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("FSSPEC_S3_ENDPOINT_URL", f"http://{host}:{port}"),
        ):
            patch.setenv(name, value)
        fsspec.config.set_conf_env(fsspec.config.conf)
        system = fsspec.filesystem("s3")
        system.mkdir("lab")
        yield system
    fsspec.config.conf.pop("s3", None)
    server.stop()


def test_a_bucket_is_read_by_range(s3, pico):
    weights = put(s3, "lab/run", {1: "step1", 2: "step2", 10: "step10"}, shards=2)
    store = open_store("s3://lab/run")
    assert [info.step for info in store.steps()] == [1, 2, 10]
    np.testing.assert_array_equal(store.read(10, None, "weights", Q), weights[10][STORED])
    answer = pico("list", "s3://lab/run")
    assert answer.code == 0 and "3 checkpoints" in answer.out
    answer = pico("list", "s3://absent/run")
    assert answer.code in (2, 3, 4) and "s3://absent/run" in answer.error
    assert "Traceback" not in answer.error and "never-shown" not in answer.error
