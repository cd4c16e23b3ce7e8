"""Who may do what: a server that others can reach shows results only, unless they log in or it is told otherwise.

Pages ask `may_act` before they draw anything that starts, changes or deletes, so that it is not there for others; what
such a widget calls asks again by `guarded` or `check_may_act`, because a browser may send what no page has drawn.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, ParamSpec
from urllib.parse import urlsplit

import streamlit as st
from streamlit.errors import Error as StreamlitError

from compression.errors import TrimboardError

# "open": whoever reaches the server may act. "results": whoever reaches it sees results, also where others log in.
ACCESS = "TRIMBOARD_ACCESS"
OPEN, RESULTS = "open", "results"
# Who may log in: addresses and, as in "@example.com", whole domains, with commas between them.
USERS = "TRIMBOARD_USERS"

# What a proxy adds to a request that it passes on.
_PASSED_ON = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")

_RESULTS_ONLY = (
    "This server can be reached from a network and has no login, so it shows results only: nothing is started, "
    f"uploaded, exported or deleted here. docs/serving.md shows how to set up a login, or what {ACCESS}={OPEN} means."
)
_ASKED_FOR_RESULTS = "This server is set to show results only: nothing is started, uploaded, exported or deleted here."
_LOG_IN_TO_ACT = "You see the results. Log in to start, upload, export or delete anything."
_WITHOUT_AUTHLIB = (
    "A login is set up, but what it needs is not installed: `pip install 'trimboard[login]'`, then start the server "
    "again."
)

P = ParamSpec("P")


class AccessError(TrimboardError):
    """A visitor asks for something that only others may do."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a visitor may do.

    Attributes:
        sees: results.
        acts: start, cancel, order and remove runs, upload, name paths of the server, export, delete, take weights away.
        reason: why not, and what helps; empty where both are allowed.
        can_log_in: whether a login would help.
    """

    sees: bool = True
    acts: bool = False
    reason: str = ""
    can_log_in: bool = False


def access() -> Access:
    """What the visitor of this session may do."""
    asked = os.environ.get(ACCESS, "")
    if asked not in ("", OPEN, RESULTS):
        return Access(sees=False, reason=f"{ACCESS} is {asked!r}; set it to {OPEN} or {RESULTS}, or to nothing.")
    if "is_logged_in" in st.user:
        return _after_login(asked)
    if asked == RESULTS:
        return Access(reason=_ASKED_FOR_RESULTS)
    hosts = st.get_option("server.allowedHosts")
    if asked == OPEN or is_for_this_machine_only(st.get_option("server.address"), hosts, st.context.headers):
        return Access(acts=True)
    return Access(reason=_RESULTS_ONLY)


def may_act() -> bool:
    """Whether the visitor may start, change or delete anything."""
    return access().acts


def check_may_act() -> None:
    """Refuse a visitor who may not act.

    Raises:
        AccessError: he may not; the sentence says why.
    """
    found = access()
    if not found.acts:
        raise AccessError(found.reason)


def guarded(action: Callable[P, object]) -> Callable[P, None]:
    """The action of a button, which does nothing for those who may not act, whatever their browser sends."""

    def act(*args: P.args, **kwargs: P.kwargs) -> None:
        if may_act():
            action(*args, **kwargs)

    return act


def admit() -> None:
    """Say what the visitor may not do; where that is to see anything at all, offer the login and end the page."""
    found = access()
    if found.sees:
        if found.reason:
            st.caption(f":material/lock: {found.reason}")
        return
    st.title("Trimboard")
    if st.user.get("is_logged_in") or not found.can_log_in:
        st.error(found.reason, icon=":material/lock:")
    else:
        st.markdown(found.reason)
        _draw_login()
    st.stop()


def draw_visitor() -> None:
    """Who is logged in, and the button that ends it or, where results need no login, begins one."""
    if st.user.get("is_logged_in"):
        st.button("Log out", key="log-out", on_click=st.logout, help=f"Logged in as {_name()}.", type="tertiary")
    elif (found := access()).sees and found.can_log_in:
        _draw_login()


def _after_login(asked: str) -> Access:
    if not st.user.get("is_logged_in"):
        if asked == RESULTS:
            return Access(reason=_LOG_IN_TO_ACT, can_log_in=True)
        return Access(sees=False, reason="Log in to see what your team has measured.", can_log_in=True)
    if _is_known():
        return Access(acts=True)
    return Access(
        sees=asked == RESULTS,
        reason=f"{_name()} is not among the users of this server; whoever runs it can add you to {USERS}.",
    )


def _is_known() -> bool:
    """Whether the visitor is one of those that the server is for; where nobody is named, whoever can log in is."""
    users = {user.strip().casefold() for user in os.environ.get(USERS, "").split(",") if user.strip()}
    address = str(st.user.get("email") or "").casefold()
    if not users:
        return True
    # An address that the provider has not verified may be anybody's.
    is_verified = st.user.get("email_verified", True) in (True, "true")
    return is_verified and (address in users or f"@{address.rpartition('@')[2]}" in users)


def _name() -> str:
    return str(st.user.get("email") or st.user.get("name") or "This account")


def is_for_this_machine_only(address: str | None, allowed_hosts: Sequence[str], headers: Mapping[str, str]) -> bool:
    """Whether a server listens on this machine only, and no proxy passes on what comes from elsewhere.

    Args:
        address: that it listens on; None for all of them.
        allowed_hosts: names that browsers may call it by; none stands for any.
        headers: of the request that began the session.
    """
    places = [address, *allowed_hosts]
    places += [urlsplit(f"//{headers['Host']}").hostname] if "Host" in headers else []
    places += [urlsplit(headers["Origin"]).hostname] if "Origin" in headers else []
    return all(map(_is_loopback, places)) and not any(name in headers for name in _PASSED_ON)


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


def _draw_login() -> None:
    if importlib.util.find_spec("authlib") is None:
        st.error(_WITHOUT_AUTHLIB, icon=":material/error:")
        return
    for provider in _providers():
        label = f"Log in with {provider.capitalize()}" if provider else "Log in"
        if st.button(label, type="primary", icon=":material/login:", key=f"log-in-{provider}"):
            try:
                st.login(provider or None)
            except StreamlitError as error:
                st.error(f"The login is not set up correctly: {error}", icon=":material/error:")


def _providers() -> list[str]:
    """Names of the providers in the secrets; "" stands for one without a name."""
    section: Mapping[str, Any] = st.secrets["auth"]
    named = [name for name, value in section.items() if isinstance(value, Mapping) and name != "client_kwargs"]
    return ([""] if "client_id" in section else []) + named
