"""Errors as the AWS APIs send them."""
from __future__ import annotations

import json
from xml.sax.saxutils import escape


class AwsError(Exception):
    """An error with its AWS code and message; `status` is the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def validation(message: str) -> AwsError:
    # ValidationError is not in the service model: clients match code and message.
    return AwsError("ValidationError", message)


def error_body(service: str, code: str, message: str) -> tuple[bytes, list[tuple[str, str]]]:
    """An error in the service's own protocol: EC2 XML, query XML or JSON."""
    if service == "eks":
        body = json.dumps({"message": message}).encode()
        return body, [("Content-Type", "application/json"), ("x-amzn-ErrorType", code)]
    inner = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if service == "ec2":
        text = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>fnstack</RequestID></Response>"
    else:
        text = f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error><RequestId>fnstack</RequestId></ErrorResponse>"
    return text.encode(), [("Content-Type", "text/xml")]
