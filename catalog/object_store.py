"""What object stores need besides fsspec's filesystems: settings, whole uploads, copies, conditional create.

Requests are tried again by botocore (`RETRIES`): after 500, 503, throttling, a broken connection or a time-out, with
back-off and jitter. s3fs has tries of its own on top, which would multiply them, so it gets one. What botocore does not
cover is an answer whose body breaks off: `read_again` does.
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
RETRIES: dict[str, Any] = {"mode": "standard", "total_max_attempts": 5}  # waits of up to 1, 2, 4 and 8 s between them
CONNECT_SECONDS, ANSWER_SECONDS = 5, 30
BODY_TRIES = 4
CONFLICT_TRIES = 5
PART_BYTES = 16 * 2**20  # of an upload; four at a time are in memory
UPLOADED_AT_A_TIME = 4
COPY_BYTES = 128 * 2**20  # copied by one request, which no server takes longer than ANSWER_SECONDS to do
READ_AHEAD = 8 * 2**20

# The server's words for what no try can mend; s3fs gives their meaning by errno too seldom.
REFUSED = {"NoSuchBucket", "AuthorizationHeaderMalformed", "PermanentRedirect", "301", "InvalidBucketName"}


def is_object_store(uri: str) -> bool:
    return uri.split("://", 1)[0] in S3


def connect(uri: str) -> tuple[Any, str]:
    """(filesystem, root) of a URI. The endpoint is among the options so that a changed one is a new filesystem."""
    if not is_object_store(uri):
        fs, root = fsspec.core.url_to_fs(uri)
        return fs, root
    names = ("FSSPEC_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    endpoint = next((os.environ[name] for name in names if os.environ.get(name)), None)
    fs, root = fsspec.core.url_to_fs(
        uri,
        use_listings_cache=False,  # other machines write too
        max_concurrency=1,  # more would cost a request for the size before every read
        config_kwargs={"retries": RETRIES, "connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS},
        endpoint_url=endpoint,
    )
    fs.retries = 1
    return fs, root


def client_errors() -> tuple[type[BaseException], ...]:
    """What clients of object stores raise that is no OSError; empty where none is loaded."""
    if "s3fs" not in sys.modules:
        return ()
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return (BotoCoreError, ClientError)


def error_code(error: BaseException) -> str:
    """The server's word for an error, such as NoSuchBucket, or the client's such as NoCredentialsError."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", type(error).__name__))


def is_refused(error: BaseException) -> bool:
    """Whether the user must mend it: no permission, no credentials, no such bucket."""
    code = error_code(error)
    return isinstance(error, PermissionError) or code in REFUSED or "Credentials" in code


def read_again(read: Callable[[], T]) -> T:
    """What `read` gives, tried again where the answer's body broke off: botocore's own tries end with its head."""
    for attempt in range(1, BODY_TRIES):
        try:
            return read()
        except client_errors() as error:
            if not type(error).__module__.startswith("aiohttp"):
                raise  # botocore has tried already
            time.sleep(random.uniform(0, 0.2 * 2**attempt))
    return read()


def upload(fs: Any, target: str, write_to: Callable[[IO[bytes]], None]) -> None:
    """Write a file on the local disk and put it whole; nothing is sent before it is complete.

    What is larger than two parts goes up in parts, and an upload that fails is aborted. The server keeps the parts of
    one whose process was killed, unseen, until a lifecycle rule removes them.
    """
    with tempfile.NamedTemporaryFile(prefix="tailforge-") as file:
        write_to(file)
        file.flush()
        at_a_time = {"chunksize": PART_BYTES, "max_concurrency": UPLOADED_AT_A_TIME} if _is_s3(fs) else {}
        fs.put_file(file.name, target, **at_a_time)


def create(fs: Any, target: str, data: bytes) -> bool:
    """Put an object unless there is one; False if there is one that holds something else.

    An answer may be lost after the server did it, and the try that follows is then refused: equal bytes are ours.
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
            time.sleep(random.uniform(0, 0.2 * 2**attempt))  # another create of this object is under way
    raise AssertionError("unreachable")


def copy(fs: Any, source: str, target: str, size: int | None) -> None:
    """Copy inside the store: the bytes do not travel. Large objects part by part; a copy that fails is aborted.

    s3fs copies too, but asks for a size that is known, and leaves the parts of a failed copy behind.
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
    """(newest modification, bytes) of what lies under a path; what has just vanished is as old as the world."""
    found = fs.find(path, detail=True).values()
    return max((each["LastModified"].timestamp() for each in found), default=0.0), sum(each["size"] for each in found)


def _is_s3(fs: Any) -> bool:
    return bool(set(S3) & {fs.protocol, *fs.protocol})


class RangeFile(io.RawIOBase):
    """A remote file of which only the ranges that are asked for are read, by `read_range(offset, size)`."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        self._read_range, self._size, self._position = read_range, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "negative position")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, except at the end of the file."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._position))
        if wanted:
            view[:wanted] = self._read_range(self._position, wanted)
        self._position += wanted
        return wanted
