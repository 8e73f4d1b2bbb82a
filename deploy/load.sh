#!/bin/sh
# Checks every file of this bundle against its digest and loads the images: `sh load.sh`.
#
# LOAD is the command that takes the archive as its last argument, for a node without Docker for example
# LOAD='ctr --namespace k8s.io images import'. PUSH=REGISTRY then tags the images for a registry, and pushes them.
set -eu
cd "$(dirname "$0")"
sha256sum --check --strict --quiet SHA256SUMS
echo "every file is what SHA256SUMS says"
${LOAD:-docker load --input} images.tar
[ -n "${PUSH:-}" ] || exit 0
while read -r image _; do
  docker tag "$image" "${PUSH%/}/$image"
  docker push "${PUSH%/}/$image"
done <images.txt
