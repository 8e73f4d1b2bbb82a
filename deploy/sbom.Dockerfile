# What Python packages an image holds, read by its own interpreter, with tools that are in no image:
#
#   docker build --file deploy/sbom.Dockerfile --build-arg SUBJECT=boneage/serving:0.1.0 --output build/sbom/serving deploy
ARG BASE=python:3.11-slim-bookworm
ARG SUBJECT

FROM ${BASE} AS tools
RUN python -m pip install --quiet --no-cache-dir --target /tools cyclonedx-bom==7.5.0

FROM ${SUBJECT} AS subject
COPY frozen.py /tmp/
RUN --mount=type=bind,from=tools,source=/tools,target=/mnt \
    python /tmp/frozen.py >/tmp/packages.txt \
 && python -c 'import runpy, sys; sys.path.append("/mnt"); runpy.run_module("cyclonedx_py", run_name="__main__")' \
      environment --output-reproducible --output-format JSON --output-file /tmp/sbom.cdx.json "$(command -v python)"

FROM scratch
COPY --from=subject /tmp/packages.txt /tmp/sbom.cdx.json /
