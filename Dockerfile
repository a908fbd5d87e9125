# Two images from one file. hack/images assembles the same without a container engine.
#   docker build --target operator -t localhost/workerpool-operator:dev .
#   docker build --target worker   -t localhost/workerpool-worker:dev .
ARG GO_IMAGE=docker.io/library/golang:1.26
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY api api
COPY cmd cmd
COPY controllers controllers
COPY internal internal
COPY python python
ENV CGO_ENABLED=0
RUN go build -trimpath -buildvcs=false -ldflags "-s -w" -o /out/ ./cmd/manager ./cmd/poold

# The operator, and the in-pod program that it injects: two static binaries and nothing else.
FROM scratch AS operator
COPY --from=build /out/manager /manager
COPY --from=build /out/poold /poold
USER 65532:65532
ENTRYPOINT ["/manager"]

# What a slot runs whose pool names no image of its own: Python, and a user that isn't root. poold and poolworker come
# with the pod, the module from an image FROM this one.
FROM ${PYTHON_IMAGE} AS worker
RUN echo 'app:x:65532:' >> /etc/group && echo 'app:x:65532:65532:app:/tmp:/usr/sbin/nologin' >> /etc/passwd
ENV PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
USER 65532:65532
