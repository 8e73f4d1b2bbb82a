"""The `boneage` command: starts services as child processes and talks to them through the client; imports none."""
