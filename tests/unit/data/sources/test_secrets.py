"""No secret of a URL reaches a message or a file of a run."""

from __future__ import annotations

import pytest

from normfree.data import open_source
from normfree.errors import UserError
from normfree.train.components import Data

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        "https://me:s3cr3t@host/{train,val}-0.tar",
        "https://s3cr3t@host/0.tar",
        "https://host/0.tar?token=s3cr3t",
        "https://host/0.tar?a=1&X-Amz-Signature=s3cr3t",
        "https://host/0.tar?sv=2020&sig=s3cr3t",
        "https://host/0.tar?api_key=s3cr3t",
    ],
)
def test_a_secret_is_refused_without_repeating_it(url):
    for refused in (
        lambda: open_source(f"wds:{url}", "train"),
        lambda: Data(source=f"wds:{url}"),
    ):
        with pytest.raises(UserError, match=r"the URL has a secret .*\$NAME") as error:
            refused()
        assert SECRET not in str(error.value)


def test_the_name_of_a_variable_is_not_refused():
    Data(source="wds:https://me:$PASSWORD@host/0.tar?token=$TOKEN&page=1")


def test_a_variable_that_is_not_set(monkeypatch):
    monkeypatch.delenv("A_TOKEN", raising=False)
    with pytest.raises(UserError, match=r"the environment variable A_TOKEN of .* is not set"):
        open_source("wds:memory://any/0.tar?token=$A_TOKEN", "train")


def test_the_value_is_in_the_request_and_nowhere_else(monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    asked = []

    class Refusing(fsspec.AbstractFileSystem):
        protocol = "refusing"
        cachable = False

        def info(self, path, **options):
            asked.append(path)
            raise OSError(f"401 Unauthorized: {path}")

    fsspec.register_implementation("refusing", Refusing, clobber=True)
    monkeypatch.setenv("A_TOKEN", SECRET)
    with pytest.raises(UserError, match=r"401 Unauthorized.*token=\$A_TOKEN") as error:
        open_source("wds:refusing://host/0.tar?token=$A_TOKEN", "train")
    assert any(SECRET in path for path in asked)
    seen, cause = str(error.value), error.value
    while (cause := cause.__cause__) is not None:
        seen += str(cause)
    assert SECRET not in seen
