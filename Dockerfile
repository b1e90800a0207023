# Warder in a container: no root, no writable root file system, everything that lasts in the volume /data.
#
#   docker build -t warder .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -p 127.0.0.1:7300:7300 \
#     -v warder-data:/data -e WARDER_PUBLIC_URL=http://localhost:7300 warder
#
# WARDER_PUBLIC_URL is what agents call; outside one machine it is the https:// URL of the proxy in front.

# The same Node as package.json pins.
ARG NODE_VERSION=24.21.0

FROM node:${NODE_VERSION}-slim AS build
WORKDIR /warder
COPY package.json package-lock.json .npmrc ./
# No install scripts: this image is the pinned Node already, and better-sqlite3 ships its binaries.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/build.ts scripts/
COPY migrations migrations
COPY adapters adapters
COPY src src
RUN npm run build

FROM node:${NODE_VERSION}-slim AS dependencies
WORKDIR /warder
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --omit=dev

FROM node:${NODE_VERSION}-slim
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Warder" \
  org.opencontainers.image.description="A self-hosted secrets broker for AI agents" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}"

# SQLite keeps its temporary files in the volume: nothing else can be written with --read-only.
ENV NODE_ENV=production \
  SQLITE_TMPDIR=/data \
  WARDER_DATA_DIR=/data \
  WARDER_LISTEN=0.0.0.0:7300

# A new volume takes owner and mode from here. Numbers, because Kubernetes' runAsNonRoot cannot look a name up;
# 1000 is the user `node` of the base image.
RUN mkdir --mode=0700 /data && chown 1000:1000 /data
VOLUME /data

WORKDIR /warder
COPY LICENSE package.json ./
COPY bin bin
COPY --from=dependencies /warder/node_modules node_modules
# dist carries its own copy of the migrations.
COPY --from=build /warder/dist dist

USER 1000:1000
EXPOSE 7300
HEALTHCHECK --interval=15s --timeout=3s --start-period=10s CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.WARDER_LISTEN?.split(':').pop()}/healthz`, { signal: AbortSignal.timeout(2500) }).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "bin/warder.cjs"]
CMD ["serve"]
