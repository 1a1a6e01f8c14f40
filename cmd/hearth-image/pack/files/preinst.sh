#!/bin/sh
# Makes the user before the files come. Debian and RPM systems.
set -e
if ! getent passwd hearth >/dev/null; then
	getent group hearth >/dev/null || groupadd --system hearth
	useradd --system --gid hearth --home-dir /var/lib/hearth --no-create-home --shell /usr/sbin/nologin hearth
fi
