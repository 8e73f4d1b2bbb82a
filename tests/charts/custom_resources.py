"""The part of other projects' resources that the charts use, as JSON schemas, closed: what is misspelt is found.

Their own schemas are not here; what is used of them has been the same for years.
"""

from typing import Any, Final

STRING: Final = {"type": "string"}
STRINGS: Final = {"type": "array", "items": STRING, "minItems": 1}
DURATION: Final = {"type": "string", "pattern": r"^([0-9]+(h|m|s|ms))+$"}
PORT: Final = {"type": "integer", "minimum": 1, "maximum": 65535}
LABELS: Final = {"type": "object", "additionalProperties": STRING}


def closed(required: str, /, **properties: Any) -> dict[str, Any]:
    """An object with these keys and no others; those named in `required` must be there."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": required.split(),
    }


def several(items: Any) -> dict[str, Any]:
    """At least one of them."""
    return {"type": "array", "items": items, "minItems": 1}


SPECS: Final[dict[str, dict[str, Any]]] = {
    "cert-manager.io/v1/Certificate": closed(
        "secretName dnsNames issuerRef",
        secretName=STRING,
        duration=DURATION,
        renewBefore=DURATION,
        dnsNames=STRINGS,
        usages={"type": "array", "items": {"enum": ["digital signature", "server auth", "client auth"]}},
        privateKey=closed(
            "",
            algorithm={"enum": ["RSA", "ECDSA", "Ed25519"]},
            size={"type": "integer"},
            rotationPolicy={"enum": ["Never", "Always"]},
        ),
        issuerRef=closed("name", name=STRING, kind=STRING, group=STRING),
    ),
    "gateway.networking.k8s.io/v1/GRPCRoute": closed(
        "parentRefs rules",
        parentRefs=several(closed("name", name=STRING, namespace=STRING, sectionName=STRING, port=PORT)),
        hostnames=STRINGS,
        rules=several(closed("backendRefs", backendRefs=several(closed("name port", name=STRING, port=PORT)))),
    ),
    "monitoring.coreos.com/v1/ServiceMonitor": closed(
        "selector endpoints",
        selector=closed("matchLabels", matchLabels=LABELS),
        endpoints=several(
            closed(
                "port",
                port=STRING,
                interval=DURATION,
                relabelings=several(closed("", sourceLabels=STRINGS, targetLabel=STRING)),
            )
        ),
    ),
    "monitoring.coreos.com/v1/PrometheusRule": closed(
        "groups",
        groups=several(
            closed(
                "name rules",
                name=STRING,
                rules=several(
                    closed(
                        "alert expr labels annotations",
                        **{"for": DURATION},
                        alert=STRING,
                        expr=STRING,
                        labels=LABELS,
                        annotations=LABELS,
                    )
                ),
            )
        ),
    ),
}
