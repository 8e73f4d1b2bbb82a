"""A store for the cluster's tests, run inside a pod: moto's S3 server with real access rights, in memory.

It prints one line of JSON, {"reader": [ID, SECRET], "writer": [ID, SECRET]}, and serves until it is stopped.
"""

import json
import os
import threading
from typing import Final

# By S3's own rules ListBucket would be enough to ask for the bucket itself.
ACTIONS: Final = {"reader": ["s3:GetObject", "s3:ListBucket", "s3:HeadBucket"], "writer": ["s3:*"]}
BUCKET: Final = "models"
PORT: Final = 9000
SET_UP: Final = 1 + 3 * len(ACTIONS)
"""Requests that are let in without rights: the bucket, and for each user a name, a policy and a key."""


def main() -> None:
    """Serve."""
    os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(SET_UP)
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="0.0.0.0", port=PORT, verbose=False)
    server.start()
    nobody = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nobody", "region_name": "us-east-1"}
    place = {"endpoint_url": f"http://127.0.0.1:{PORT}", **nobody}
    boto3.client("s3", **place).create_bucket(Bucket=BUCKET)
    users = boto3.client("iam", **place)
    keys = {}
    for name, actions in ACTIONS.items():
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        users.create_user(UserName=name)
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        users.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
        key = users.create_access_key(UserName=name)["AccessKey"]
        keys[name] = [key["AccessKeyId"], key["SecretAccessKey"]]
    print(json.dumps(keys), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
