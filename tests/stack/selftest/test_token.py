"""EKS tokens: made by botocore's signer, checked by the harness's own arithmetic."""
from __future__ import annotations

import base64
import datetime as dt
import unittest

import boto3
from botocore.model import ServiceId
from botocore.signers import RequestSigner

from fnstack.aws.identity import Identities, Principal
from fnstack.eks_token import Refused, canonical_arn, verify

REGION = "us-west-2"


def token(who: Principal, cluster: str, host: str = f"sts.{REGION}.amazonaws.com", headers=None) -> str:
    session = boto3.Session(
        aws_access_key_id=who.access_key,
        aws_secret_access_key=who.secret_key,
        aws_session_token=who.token,
        region_name=REGION,
    )
    signer = RequestSigner(ServiceId("sts"), REGION, "sts", "v4", session.get_credentials(), session.events)
    url = signer.generate_presigned_url(
        {
            "method": "GET",
            "url": f"https://{host}/?Action=GetCallerIdentity&Version=2011-06-15",
            "body": {},
            "headers": {"x-k8s-aws-id": cluster} if headers is None else headers,
            "context": {},
        },
        region_name=REGION,
        expires_in=60,
        operation_name="",
    )
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


class Tokens(unittest.TestCase):
    def setUp(self) -> None:
        self.identities = Identities()
        self.who = self.identities.add("fastnode")

    def check(self, text: str, now: dt.datetime | None = None):
        moment = now or dt.datetime.now(dt.timezone.utc)
        return verify(text, self.identities, ["other", "c"], REGION, moment)

    def refused(self, text: str, now: dt.datetime | None = None) -> str:
        with self.assertRaises(Refused) as caught:
            self.check(text, now)
        return str(caught.exception)

    def test_a_good_token_tells_caller_and_cluster(self):
        caller = self.check(token(self.who, "c"))
        self.assertEqual((caller.principal.arn, caller.cluster), (self.who.arn, "c"))

    def test_a_session_token_is_part_of_it(self):
        session = self.identities.add("role", temporary=True)
        self.assertEqual(self.check(token(session, "c")).principal, session)
        without = Principal(session.access_key, session.secret_key, "", "", None)
        self.assertIn("session token", self.refused(token(without, "c")))

    def test_another_cluster_s_token_is_refused(self):
        self.assertIn("signature", self.refused(token(self.who, "elsewhere")))

    def test_a_wrong_secret_is_refused(self):
        forged = Principal(self.who.access_key, "guess", self.who.arn, "", None)
        self.assertIn("signature", self.refused(token(forged, "c")))

    def test_the_cluster_header_has_to_be_signed(self):
        self.assertIn("signed headers", self.refused(token(self.who, "c", headers={})))

    def test_the_host_has_to_be_sts_of_the_region(self):
        self.assertIn("not of https://sts.us-west-2", self.refused(token(self.who, "c", host="127.0.0.1:5000")))
        self.assertIn("not of https://sts.us-west-2", self.refused(token(self.who, "c", host="sts.amazonaws.com")))

    def test_a_token_lasts_fifteen_minutes(self):
        text = token(self.who, "c")
        now = dt.datetime.now(dt.timezone.utc)
        self.check(text, now + dt.timedelta(minutes=14))
        self.assertIn("expired", self.refused(text, now + dt.timedelta(minutes=16)))

    def test_expired_credentials_and_garbage_are_refused(self):
        self.who.expired = True
        self.assertIn("expired", self.refused(token(self.who, "c")))
        self.assertIn("k8s-aws-v1", self.refused("abc"))

    def test_an_assumed_role_counts_as_its_role(self):
        self.assertEqual(
            canonical_arn("arn:aws:sts::123456789012:assumed-role/deploy/session"),
            "arn:aws:iam::123456789012:role/deploy",
        )


if __name__ == "__main__":
    unittest.main()
