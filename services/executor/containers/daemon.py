"""The Docker Engine: connecting, having an image, and what its refusals mean for a task."""

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp
from aiodocker import Docker, DockerError

from taskloom.kinds.api import TaskError

NOT_CONNECTED: Final = 900
"""aiodocker's status of an engine that cannot be reached."""

PING_S: Final = 3.0
_HEADER_BYTES: Final = 8
_UNOBTAINABLE: Final = ("not found", "denied", "unauthorized", "manifest unknown", "no matching manifest", "invalid")


def connect(host: str) -> Docker:
    """A client without a limit of connections: each running container holds one.

    ``host`` is as DOCKER_HOST: ``unix:///path``, ``tcp://host:port``; TLS by DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.
    """
    if host.startswith("unix://"):
        path = host.removeprefix("unix://")
        return Docker(url="unix://localhost", connector=aiohttp.UnixConnector(path, limit=0), api_version="auto")
    scheme = "https" if uses_tls(host) else "http"
    connector = aiohttp.TCPConnector(limit=0, ssl=tls() if uses_tls(host) else True)
    return Docker(url=f"{scheme}://{host.partition('://')[2]}", connector=connector, api_version="auto")


async def close(docker: Docker) -> None:
    await docker.close()
    await docker.connector.close()


def uses_tls(host: str) -> bool:
    return host.startswith("https://") or os.environ.get("DOCKER_TLS_VERIFY", "") not in ("", "0")


def tls() -> ssl.SSLContext:
    folder = Path(os.environ.get("DOCKER_CERT_PATH", "~/.docker")).expanduser()
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
    return context


async def answers(docker: Docker) -> bool:
    """Whether the engine is there, asked within three seconds."""
    try:
        async with asyncio.timeout(PING_S):
            await docker.version()
    except (DockerError, aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False
    return True


@contextmanager
def told(doing: str, host: str) -> Iterator[None]:
    """Refusals of the engine as the attempt's error.

    Raises:
        TaskError: ``docker_unavailable`` and ``docker_error`` (5xx) are retryable, ``docker_refused`` is not.
    """
    try:
        yield
    except DockerError as error:
        raise refusal(error, doing, host) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise unavailable(doing, host, error) from error


def unavailable(doing: str, host: str, error: object) -> TaskError:
    message = (
        f"{doing}: no Docker Engine answers at {host}: {error}; start it, let the executor's user at its socket, "
        "or set TASKLOOM_DOCKER_HOST"
    )
    return TaskError("docker_unavailable", message, fault=True)


def refusal(error: DockerError, doing: str, host: str) -> TaskError:
    if error.status == NOT_CONNECTED:
        return unavailable(doing, host, error.message)
    details = {"status": error.status}
    if error.status >= 500:
        return TaskError("docker_error", f"{doing}: {error.message}", details=details)
    return TaskError("docker_refused", f"{doing}: {error.message}", retryable=False, details=details)


async def have_image(docker: Docker, image: str, pull: Literal["never", "missing", "always"], host: str) -> None:
    """Returns when the engine has the image.

    Raises:
        TaskError: ``image_missing`` (never pull it, and it is not here) and ``image_unavailable`` (the registry does
            not have it or does not let us) are not retryable; ``image_pull_failed`` (the registry is away) is.
    """
    if pull != "always":
        with told(f"looking for the image {image}", host):
            if await _is_here(docker, image):
                return
        if pull == "never":
            message = f"the image {image} is not on this executor's host, and input.pull is never"
            raise TaskError("image_missing", message, retryable=False)
    try:
        async for _ in docker.images.pull(image, stream=True):
            pass
    except DockerError as error:
        if error.status == NOT_CONNECTED:
            raise unavailable(f"pulling the image {image}", host, error.message) from error
        raise _not_pulled(image, error) from error
    except (aiohttp.ClientError, OSError) as error:
        raise unavailable(f"pulling the image {image}", host, error) from error


async def _is_here(docker: Docker, image: str) -> bool:
    try:
        await docker.images.inspect(image)
    except DockerError as error:
        if error.status != 404:
            raise
        return False
    return True


def _not_pulled(image: str, error: DockerError) -> TaskError:
    text = error.message.lower()
    # "dial tcp: lookup registry: no such host" has no word of these; a registry's no has.
    if error.status in (400, 401, 403, 404) or any(word in text for word in _UNOBTAINABLE):
        message = f"the image {image} cannot be had: {error.message}; check its name and the registry's access"
        return TaskError("image_unavailable", message, retryable=False)
    return TaskError("image_pull_failed", f"the image {image} could not be pulled: {error.message}")


@asynccontextmanager
async def streamed(docker: Docker, path: str, /, **parameters: Any) -> AsyncIterator[aiohttp.StreamReader]:
    """An answer as it comes, without a time limit. It is closed when the block is left: aiodocker leaves one open that
    was not read to its end."""
    async with docker._query(path, params=parameters, timeout=aiohttp.ClientTimeout()) as response:
        try:
            yield response.content
        finally:
            response.close()


async def logs(
    docker: Docker, container_id: str, *, tty: bool, **parameters: Any
) -> AsyncGenerator[tuple[int, bytes], None]:
    """A container's log as (1 for stdout or 2 for stderr, bytes) in the engine's order.

    aiodocker's own reader makes text of it and drops the stream's name, hence its inner request is used here.
    """
    path = f"containers/{container_id}/logs"
    async with streamed(docker, path, stdout=True, stderr=True, **parameters) as content:
        while True:
            try:
                head = b"\x01" if tty else await content.readexactly(_HEADER_BYTES)
            except asyncio.IncompleteReadError:
                return
            data = await content.readany() if tty else await content.readexactly(int.from_bytes(head[4:], "big"))
            if not data and tty:
                return
            yield head[0], data
