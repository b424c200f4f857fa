"""Complete fsspec's filesystems for object stores: settings, whole uploads, copies, conditional create.

After 500, 503, throttling, a broken connection or a time-out, botocore repeats a request with back-off and jitter
(RETRIES). s3fs would multiply these attempts by its own, so it gets a single one. If the body of an answer breaks off,
botocore does not repeat the request, but `read_again` does.
"""

import errno
import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, TypeVar

import fsspec

T = TypeVar("T")

S3 = ("s3", "s3a")
RETRIES: dict[str, Any] = {"mode": "standard", "total_max_attempts": 5}  # with waits of up to 1, 2, 4 and 8 s
CONNECT_SECONDS, ANSWER_SECONDS = 5, 30
BODY_TRIES = 4
CONFLICT_TRIES = 5
PART_BYTES = 16 * 2**20  # size of a part of an upload
UPLOADED_AT_A_TIME = 4  # parts in memory
COPY_BYTES = 128 * 2**20  # bytes per copy request, so that a server answers within ANSWER_SECONDS
READ_AHEAD = 8 * 2**20

# The server's codes for errors that no repetition solves. s3fs maps only some of them to errno.
REFUSED = {"NoSuchBucket", "AuthorizationHeaderMalformed", "PermanentRedirect", "301", "InvalidBucketName"}


def is_object_store(uri: str) -> bool:
    """Return whether an address belongs to an object store."""
    return uri.split("://", 1)[0] in S3


def connect(uri: str) -> tuple[Any, str]:
    """Return (filesystem, root) of a URI. Errors: ImportError, OSError, ValueError of fsspec."""
    if not is_object_store(uri):
        fs, root = fsspec.core.url_to_fs(uri)
        return fs, root

    # fsspec caches filesystems by their options, so the endpoint is one of them.
    names = ("FSSPEC_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    endpoint = next((os.environ[name] for name in names if os.environ.get(name)), None)
    fs, root = fsspec.core.url_to_fs(
        uri,
        use_listings_cache=False,  # other machines write, too
        max_concurrency=1,  # with more, s3fs requests the size before every read
        config_kwargs={"retries": RETRIES, "connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS},
        endpoint_url=endpoint,
    )
    fs.retries = 1
    return fs, root


def client_errors() -> tuple[type[BaseException], ...]:
    """Return the error classes of clients of object stores that are no OSError; empty if no client is loaded."""
    if "s3fs" not in sys.modules:
        return ()
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return (BotoCoreError, ClientError)


def error_code(error: BaseException) -> str:
    """Return the server's code of an error, such as NoSuchBucket, or the client's, such as NoCredentialsError."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", type(error).__name__))


def is_refused(error: BaseException) -> bool:
    """Return whether only the user can solve an error: no permission, no credentials, no such bucket."""
    code = error_code(error)
    return isinstance(error, PermissionError) or code in REFUSED or "Credentials" in code


def read_again(read: Callable[[], T]) -> T:
    """Return the result of `read`, repeated if the body of an answer broke off, which botocore does not repeat."""
    for attempt in range(1, BODY_TRIES):
        try:
            return read()
        except client_errors() as error:
            if not type(error).__module__.startswith("aiohttp"):
                raise  # botocore has repeated it
            time.sleep(random.uniform(0, 0.2 * 2**attempt))
    return read()


def upload(fs: Any, target: str, write_to: Callable[[IO[bytes]], None]) -> None:
    """Write a file on the local disk, then upload it when it is complete.

    Files above two parts are uploaded in parts, and a failed upload is aborted. If the process is killed, the server
    keeps the parts invisibly until a lifecycle rule removes them.
    """
    with tempfile.NamedTemporaryFile(prefix="tailforge-") as file:
        write_to(file)
        file.flush()
        at_a_time = {"chunksize": PART_BYTES, "max_concurrency": UPLOADED_AT_A_TIME} if _is_s3(fs) else {}
        fs.put_file(file.name, target, **at_a_time)


def create(fs: Any, target: str, data: bytes) -> bool:
    """Create an object unless it exists; return False if it exists with other bytes.

    A lost answer leads to another attempt, which the server refuses. So equal bytes count as this call's own.
    """
    for attempt in range(1, CONFLICT_TRIES + 1):
        try:
            fs.pipe_file(target, data, mode="create")
            return True
        except OSError as error:
            if isinstance(error, FileExistsError) or error_code(error) in ("PreconditionFailed", "412"):
                return bool(read_again(lambda: fs.cat_file(target)) == data)
            if error_code(error) not in ("ConditionalRequestConflict", "409") or attempt == CONFLICT_TRIES:
                raise
            time.sleep(random.uniform(0, 0.2 * 2**attempt))  # another process is creating this object
    raise AssertionError("unreachable")


def copy(fs: Any, source: str, target: str, size: int | None) -> None:
    """Copy inside the store without download. Large objects are copied in parts, and a failed copy is aborted.

    s3fs's own copy requests the known size again, and leaves the parts of a failed copy behind.
    """
    if not _is_s3(fs):
        fs.cp_file(source, target)
        return

    size = int(fs.size(source)) if size is None else size
    (bucket, key, _), (source_bucket, source_key, _) = fs.split_path(target), fs.split_path(source)
    address = {"Bucket": bucket, "Key": key}
    origin = {"Bucket": source_bucket, "Key": source_key}
    if size <= COPY_BYTES:
        fs.call_s3("copy_object", **address, CopySource=origin)
        return

    upload = fs.call_s3("create_multipart_upload", **address)["UploadId"]
    try:
        parts = []
        for number, start in enumerate(range(0, size, COPY_BYTES), 1):
            ends = f"bytes={start}-{min(start + COPY_BYTES, size) - 1}"
            copied = fs.call_s3(
                "upload_part_copy",
                **address,
                UploadId=upload,
                PartNumber=number,
                CopySource=origin,
                CopySourceRange=ends,
            )
            parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
        fs.call_s3("complete_multipart_upload", **address, UploadId=upload, MultipartUpload={"Parts": parts})
    except BaseException:
        with suppress(OSError, *client_errors()):
            fs.call_s3("abort_multipart_upload", **address, UploadId=upload)
        raise


def measure(fs: Any, path: str) -> tuple[float, int]:
    """Return (newest modification, bytes) of all objects below a path; (0, 0) if they have just vanished."""
    found = fs.find(path, detail=True).values()
    return max((each["LastModified"].timestamp() for each in found), default=0.0), sum(each["size"] for each in found)


def _is_s3(fs: Any) -> bool:
    """Return whether a filesystem speaks S3."""
    return bool(set(S3) & {fs.protocol, *fs.protocol})


class RangeFile(io.RawIOBase):
    """A remote file that reads only the requested ranges, by `read_range(offset, size)`."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        self._read_range, self._size, self._position = read_range, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set and return the position in bytes. Errors: OSError for a negative position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "negative position")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, less at the end of the file; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._position))
        if wanted:
            view[:wanted] = self._read_range(self._position, wanted)
        self._position += wanted
        return wanted
