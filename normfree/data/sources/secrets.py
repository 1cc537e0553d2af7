"""Secrets of URLs: named by environment variables, so that no file of a run has them.

``https://host/0.tar?token=$TOKEN`` stays as it is in configurations, cards, messages and the names
of the cache; the value takes the place of ``$TOKEN`` only where the URL is opened.
"""

from __future__ import annotations

import os
import re

from normfree.errors import UserError

_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_USER = re.compile(r"://([^/?#@\s]+)@")
_PARAMETER = re.compile(
    r"[?&;]([\w.%-]*(?:token|secret|passw|pwd|sig|signature|credential|auth|key)[\w.%-]*)=([^&;#]+)",
    re.IGNORECASE,
)


def check_no_secret(spec: str) -> None:
    """Refuse a URL with a password or a token in it; the message does not repeat it.

    Args:
        spec: a description of a source.

    Raises:
        UserError: it has one.

    >>> check_no_secret("wds:https://me:$PASSWORD@host/0.tar?token=$TOKEN")
    >>> check_no_secret("wds:https://host/0.tar?token=a1b2")
    Traceback (most recent call last):
    ...
    normfree.errors.UserError: the URL has a secret (token=…), which would be saved with the run and
    its weights: put it into an environment variable and write its name, token=$NAME, in single
    quotes
    """
    for user in _USER.findall(spec):
        name, colon, password = user.partition(":")
        if not _NAME.fullmatch(password if colon else name):
            raise _refused("user:…@", "user:$NAME@")
    for parameter, value in _PARAMETER.findall(spec):
        if not _NAME.fullmatch(value):
            raise _refused(f"{parameter}=…", f"{parameter}=$NAME")


def _refused(what: str, instead: str) -> UserError:
    return UserError(
        f"the URL has a secret ({what}), which would be saved with the run and its weights: put it "
        f"into an environment variable and write its name, {instead}, in single quotes"
    )


def reveal(url: str) -> str:
    """The URL with the values of the environment variables that it names.

    Raises:
        UserError: one is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UserError(f"the environment variable {match[1]} of {url:.200} is not set")
        return os.environ[match[1]]

    return _NAME.sub(value, url)


def conceal(text: str, url: str) -> str:
    """A text without the values that :func:`reveal` puts into a URL.

    >>> os.environ["A_TOKEN"] = "a1b2"
    >>> conceal("403 for https://host/0.tar?token=a1b2", "https://host/0.tar?token=$A_TOKEN")
    '403 for https://host/0.tar?token=$A_TOKEN'
    """
    for name in _NAME.findall(url):
        if secret := os.environ.get(name):
            text = text.replace(secret, f"${name}")
    return text
