"""Receipt files: a recall's request and receipt, exact to the byte, so that it can be replayed at any later time.

The messages are kept as base64 of their wire form; the readable fields beside them are for people and never read back.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from sfmctl import asked, outfile
from sfmctl.codes import C
from sfmctl.render import SCHEMA_VERSION

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb


def fields(receipt: pb.Receipt) -> dict[str, Any]:
    """A receipt as JSON fields."""
    return {
        "namespace": receipt.namespace, "seq": receipt.seq, "nowS": receipt.now_s,
        "normaliserVersion": receipt.normaliser_version, "configDigest": receipt.config_digest.hex(),
        "requestDigest": receipt.request_digest.hex(), "engine": receipt.engine, "path": receipt.path,
        "rowsTotal": receipt.rows_total, "rowsScored": receipt.rows_scored,
        "answerDigest": receipt.answer_digest.hex(),
    }  # fmt: skip


def write(path: str, request: pb.RecallRequest, receipt: pb.Receipt) -> None:
    """Write a receipt file. Raises an output fault when that cannot be done."""
    body = {
        "schemaVersion": SCHEMA_VERSION,
        "kind": "RecallReceipt",
        "receipt": fields(receipt),
        "receiptBase64": base64.b64encode(receipt.SerializeToString(deterministic=True)).decode(),
        "requestBase64": base64.b64encode(request.SerializeToString(deterministic=True)).decode(),
    }
    with outfile.target(path) as out:
        out.write((json.dumps(body, indent=2) + "\n").encode())


def read(path: str) -> pb.ReplayRequest:
    """The replay request that a receipt file stands for. Raises an input fault when it is no such file."""
    from google.protobuf.message import DecodeError

    from sfmd.rpc.gen import memory_pb2 as pb

    try:
        body = json.loads(asked.content(path))
        if body.get("kind") != "RecallReceipt":
            raise ValueError("its kind is not RecallReceipt")
        made = pb.ReplayRequest()
        made.receipt.ParseFromString(base64.b64decode(body["receiptBase64"], validate=True))
        made.request.ParseFromString(base64.b64decode(body["requestBase64"], validate=True))
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, DecodeError, RecursionError) as error:
        where = "standard input" if path == "-" else path
        raise C.INPUT.fault(f"{where} is no receipt file", why=str(error),
                            next_step="sfmctl memory recall … --receipt FILE writes one") from error  # fmt: skip
    return made
